"""Names that mean something to a browser, a terminal, Markdown or TeX."""

from __future__ import annotations

ATTACKS = [
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "[x](http://evil)", "![x](http://evil/a.png)",
    "http://evil.example", "www.evil.example", "<http://evil.example>", "[x]: http://evil.example", "[x][y]", "`code`",
    "a|b|c", "*a* **b** _c_ ~~d~~", "# head", "1. list", "1", "- list", "> quote", "&lt;b&gt; &amp;",
    "a\n\n# head\n\n<b>x</b>", "    indented",
    "```\ncode", "\\", "\\|", "\\[x](y)", "[red]x[/red]", "[/]", "[link=http://evil]x[/link]", "[@click=app.bell]x[/]",
    "\x1b[2J\x1b[31m", "\x1b]8;;http://evil\x1b\\x\x1b]8;;\x1b\\", "\x1b]52;c;aGk=\x07", "\u009b31m", "\x07\x08\r\x7f",
    "\u202eabc", "\ud800", r"\input{/etc/passwd}", r"\write18{id}", "a & b % c $ d # e _ f { g } ~ ^ ^^M",
]  # fmt: skip
