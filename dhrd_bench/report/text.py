"""A document as Markdown and LaTeX."""

from __future__ import annotations

import html
import re

from dhrd_bench.errors import shown
from dhrd_bench.report.layout import Document, Section, Table, TableCell

# ---------------------------------------------------------------- Markdown


def as_markdown(document: Document) -> str:
    """Return `document` as GitHub Markdown, with the command that makes it."""
    by = f" by {_code(document.command)}" if document.command else ""
    parts = [f"# {document.title}", f"Made from the records{by}; edit the records, not this file."]
    for section in document.sections:
        parts += [f"## {escaped(section.title)}", escaped(f"{section.about}.")]
        parts.append(escaped(" ".join(section.verdict)))
        for table in section.tables:
            parts += [
                f"### {escaped(table.title)}",
                _md_table(table),
                "  \n".join(escaped(line) for line in table.sentences),
            ]
        if section.notes:
            notes = "\n".join(f"- {escaped(note)}" for note in section.notes)
            parts += ["### Left out, and to be read with it", notes]
    for title, lines in document.endnotes:
        parts += [f"## {title}", "\n".join(f"- {escaped(line)}" for line in lines)]
    return "\n\n".join(part for part in parts if part) + "\n"


def escaped(text: str) -> str:
    """Return `text` with what Markdown would read as markup or as a link escaped."""
    text = html.escape(shown(text.strip()), quote=False)
    text = re.sub(r"[\\|*_`~]|(?<=\])[(:\[]|(?<=:)/(?=/)|(?<=www)\.", r"\\\g<0>", text, flags=re.IGNORECASE)
    return re.sub(r"^(\d*)([#+=.)-])(?=[\s#=-]|$)", r"\1\\\2", text)  # there they make a heading or a list


def _code(text: str) -> str:
    """Return `text` as code in Markdown, fenced by more backticks than it has in a row."""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    edge = " " if "`" in text else ""
    return f"{fence}{edge}{shown(text)}{edge}{fence}"


def _md_cell(cell: TableCell) -> str:
    main = f"**{escaped(cell.main)}**" if cell.strong else escaped(cell.main)
    return f"{main} {escaped(cell.detail)}".strip()


def _md_table(table: Table) -> str:
    lines = [
        "| " + " | ".join(escaped(column.head) for column in table.columns) + " |",
        "|" + "|".join("---:" if column.align == "right" else ":---" for column in table.columns) + "|",
    ]
    lines += ["| " + " | ".join(_md_cell(cell) for cell in row) + " |" for row in table.rows]
    return "\n".join(lines)


# ---------------------------------------------------------------- LaTeX

_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "−": "$-$", "∞": r"$\infty$", "×": r"$\times$", "–": "--", "†": r"\textdagger{}",
    "‡": r"\textdaggerdbl{}", "·": r"\textperiodcentered{}", "→": r"$\rightarrow$", "≤": r"$\leq$",
    "±": r"$\pm$", "✓": r"$\surd$",
}  # fmt: skip


def as_latex(document: Document) -> str:
    r"""Return the tables of `document` for a LaTeX paper; they need ``\usepackage{booktabs}``."""
    command = [f"% {_one_line(document.command)}"] if document.command else []
    parts = [*command, r"% \usepackage{booktabs}"]
    for section in document.sections:
        parts += [rf"\noindent {_tex(' '.join(section.verdict))}", ""] if section.verdict else []
        parts += [_tex_table(section, table) for table in section.tables]
        parts += [f"% {_one_line(note)}" for note in section.notes]
    return "\n".join(parts) + "\n"


def _tex(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in shown(text))


def _one_line(text: str) -> str:
    return " ".join(shown(text).split())


def _tex_cell(cell: TableCell) -> str:
    main = rf"\textbf{{{_tex(cell.main)}}}" if cell.strong else _tex(cell.main)
    # The braces keep an interval at the start of a row from being read as an option of \\.
    return f"{main} {{\\footnotesize {_tex(cell.detail)}}}" if cell.detail else main


def _tex_table(section: Section, table: Table) -> str:
    columns = "".join("l" if column.align == "left" else "r" for column in table.columns)
    caption = _tex(" ".join((f"{table.title}, {section.title}.", *table.sentences)))
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
        cells = " & ".join(_tex_cell(cell) for cell in row)
        # What stands behind the end of a row is read as an option of it if it is a bracket, and as its star.
        lines.append(("{}" if cells.startswith(("[", "*")) else "") + cells + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"])
