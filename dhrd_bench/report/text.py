"""Tables as Markdown, HTML and LaTeX."""

from __future__ import annotations

import html

from dhrd_bench.report.picture import STYLE, as_svg
from dhrd_bench.report.tables import Cell, Document, Section, Table


def _endnotes(document: Document) -> list[tuple[str, tuple[str, ...]]]:
    notes = [("No leaderboard", document.notes), ("Records that could not be read", document.problems)]
    return [(title, lines) for title, lines in notes if lines]


# ---------------------------------------------------------------- Markdown


def as_markdown(document: Document) -> str:
    """Return `document` as GitHub Markdown, with the command that makes it."""
    parts = [
        "# Leaderboard",
        f"Made from the records by `{document.command}`; edit the records, not this file.",
    ]
    for section in document.sections:
        parts += [f"## {_md(section.title)}", f"{_md(section.about)}."]
        for table in section.tables:
            parts += [f"### {_md(table.title)}", _md_table(table), "  \n".join(_md(line) for line in table.caption)]
        if section.notes:
            parts += ["### Left out, and to be read with it", "\n".join(f"- {_md(note)}" for note in section.notes)]
    for title, lines in _endnotes(document):
        parts += [f"## {title}", "\n".join(f"- {_md(line)}" for line in lines)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _md(text: str) -> str:
    """Escape what Markdown would read as markup."""
    text = html.escape(text, quote=False)
    for mark in "\\|*_`":
        text = text.replace(mark, f"\\{mark}")
    return text.replace("](", "]\\(")


def _md_cell(cell: Cell) -> str:
    main = f"**{_md(cell.main)}**" if cell.strong else _md(cell.main)
    return f"{main} {_md(cell.detail)}".strip()


def _md_table(table: Table) -> str:
    lines = [
        "| " + " | ".join(_md(column.head) for column in table.columns) + " |",
        "|" + "|".join("---:" if column.align == "right" else ":---" for column in table.columns) + "|",
    ]
    lines += ["| " + " | ".join(_md_cell(cell) for cell in row) + " |" for row in table.rows]
    return "\n".join(lines)


# ---------------------------------------------------------------- HTML

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --dim: #777; --good: #0a7d3c; }
@media (prefers-color-scheme: dark) { :root { --dim: #999; --good: #4cc38a; } }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; }
h2 { margin-top: 2.5rem; } h3 { margin: 1.8rem 0 .4rem; font-size: 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem .3rem 0; text-align: right; vertical-align: top; white-space: nowrap; }
th { border-bottom: 1px solid var(--dim); font-weight: 600; } td { border-bottom: 1px solid var(--line); }
.left { text-align: left; } .strong { font-weight: 700; } .rule td { border-top: 1px solid var(--dim); }
.detail { display: block; font-size: .8em; } .detail, .about, .caption { color: var(--dim); }
.caption { font-size: .87em; margin: .35rem 0; max-width: 60rem; } code { font-size: .92em; }
"""


def as_html(document: Document) -> str:
    """Return `document` as one HTML page that needs nothing else."""
    body = [f"<p class=about>Made from the records by <code>{html.escape(document.command)}</code></p>"]
    body += [_html_section(section) for section in document.sections]
    for title, lines in _endnotes(document):
        items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
        body.append(f"<h2>{title}</h2><ul>{items}</ul>")
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>dhrd-bench leaderboard</title>\n<style>{_STYLE}{STYLE}</style>\n<h1>Leaderboard</h1>\n"
        + "\n".join(body)
        + "\n</html>\n"
    )


def _html_section(section: Section) -> str:
    parts = [f"<h2>{html.escape(section.title)}</h2>", f"<p class=about>{html.escape(section.about)}</p>"]
    for table in section.tables:
        parts.append(f"<h3>{html.escape(table.title)}</h3>")
        parts.append(_html_table(table))
        parts += [f"<p class=caption>{html.escape(line)}</p>" for line in table.caption]
        parts.append(as_svg(table.points))
    if section.notes:
        items = "".join(f"<li>{html.escape(note)}</li>" for note in section.notes)
        parts.append(f"<h3>Left out, and to be read with it</h3><ul>{items}</ul>")
    return "\n".join(filter(None, parts))


def _html_table(table: Table) -> str:
    sides = [' class="left"' if column.align == "left" else "" for column in table.columns]
    head = "".join(f"<th{side}>{html.escape(c.head)}</th>" for side, c in zip(sides, table.columns, strict=True))
    rows = []
    for r, row in enumerate(table.rows):
        rule = ' class="rule"' if r == table.rule else ""
        cells = []
        for side, cell in zip(sides, row, strict=True):
            main = f'<span class="strong">{html.escape(cell.main)}</span>' if cell.strong else html.escape(cell.main)
            detail = f'<span class="detail">{html.escape(cell.detail)}</span>' if cell.detail else ""
            cells.append(f"<td{side}>{main}{detail}</td>")
        rows.append(f"<tr{rule}>{''.join(cells)}</tr>")
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n'
        + "\n".join(rows)
        + "\n</tbody></table></div>"
    )


# ---------------------------------------------------------------- LaTeX

_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "−": "$-$", "×": r"$\times$", "–": "--", "·": r"\textperiodcentered{}",
}  # fmt: skip


def as_latex(document: Document) -> str:
    r"""Return the tables of `document` for a LaTeX paper; they need ``\usepackage{booktabs}``."""
    parts = [f"% {_one_line(document.command)}", r"% \usepackage{booktabs}"]
    for section in document.sections:
        parts += [_tex_table(section, table) for table in section.tables]
        parts += [f"% {_one_line(note)}" for note in section.notes]
    return "\n".join(parts) + "\n"


def _tex(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in text)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _tex_cell(cell: Cell) -> str:
    main = rf"\textbf{{{_tex(cell.main)}}}" if cell.strong else _tex(cell.main)
    # The braces keep an interval at the start of a row from being read as an option of \\.
    return f"{main} {{\\footnotesize {_tex(cell.detail)}}}" if cell.detail else main


def _tex_table(section: Section, table: Table) -> str:
    columns = "".join("l" if column.align == "left" else "r" for column in table.columns)
    caption = _tex(" ".join((f"{table.title}, {section.title}.", *table.caption)))
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{caption}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
    ]
    lines.append(" & ".join(_tex(column.head) for column in table.columns) + r" \\")
    lines.append(r"\midrule")
    for r, row in enumerate(table.rows):
        if r == table.rule:
            lines.append(r"\midrule")
        lines.append(" & ".join(_tex_cell(cell) for cell in row) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"])
