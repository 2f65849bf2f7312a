"""The page of a report: one HTML file with its pictures in it."""

import base64
import html
from collections.abc import Mapping
from string import Template
from typing import Any

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>$title</title>
<style>
body { font: 15px/1.45 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; margin: 0.5em 0; }
th, td { text-align: left; padding: 0.15em 1em 0.15em 0; border-bottom: 1px solid #ddd; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: 1em 0; }
img { max-width: 100%; }
figcaption { color: #444; }
pre { background: #f4f4f4; padding: 1em; overflow-x: auto; }
.warning { background: #fff0c0; padding: 0.5em 1em; }
</style>
</head>
<body>
<h1>$title</h1>
$body
</body>
</html>
""")
HEADINGS = {
    "doors": "Doors",
    "lines": "Measurement lines, from left to right of their direction",
    "rooms": "Rooms",
}
ROUNDING = 1e-12  # a number below it is shown as 0; numbers.json has it
NOTE = (
    "The crowd is a density of people who choose their way and foresee the crowd. It has neither "
    "clogging in a narrow door nor people who do not know the way."
)


def page(title: str, numbers: dict, pictures: Mapping[str, bytes], report: str) -> str:
    """The page.

    Args:
        title: of the page.
        numbers: nested, as in numbers.json.
        pictures: caption -> PNG.
        report: what the solution prints.
    """
    solver = numbers["solver"]
    alarms = [] if solver["converged"] else [f"The solver has not converged: {solver['reason']}."]
    parts = [f'<p class="warning">{html.escape(text)}</p>' for text in alarms + solver["warnings"]]
    plain = {name: y for name, y in numbers.items() if not isinstance(y, dict)}
    parts += ["<h2>Result</h2>", _list(numbers["people"] | numbers["exit times"] | plain)]
    for name, heading in HEADINGS.items():
        if numbers[name]:
            parts += [f"<h2>{heading}</h2>", _table(numbers[name])]
    parts += [_picture(caption, png) for caption, png in pictures.items()]
    parts += ["<h2>Problem</h2>", _list(numbers["problem"]), f"<p>{NOTE}</p>"]
    parts += ["<h2>How well it is solved</h2>", f"<pre>{html.escape(report)}</pre>"]
    return PAGE.substitute(title=html.escape(title), body="\n".join(parts))


def _picture(caption: str, png: bytes) -> str:
    data = base64.b64encode(png).decode()
    text = _text(caption)
    return (
        f'<figure><img alt="{text}" src="data:image/png;base64,{data}">'
        f"<figcaption>{text}</figcaption></figure>"
    )


def _list(values: Mapping[str, Any]) -> str:
    rows = [f"<tr><th>{_text(name)}</th>{_cell(y)}</tr>" for name, y in values.items()]
    return f"<table>{''.join(rows)}</table>"


def _table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    columns = dict.fromkeys(name for row in rows.values() for name in row)
    head = "".join(f"<th>{_text(name)}</th>" for name in columns)
    lines = [f"<tr><th></th>{head}</tr>"]
    for name, row in rows.items():
        cells = "".join(_cell(row.get(column)) for column in columns)
        lines.append(f"<tr><th>{_text(name)}</th>{cells}</tr>")
    return f"<table>{''.join(lines)}</table>"


def _cell(value: Any) -> str:
    if value is None:
        return "<td>not before the horizon</td>"
    if isinstance(value, float):
        value = f"{value:.4g}" if abs(value) > ROUNDING else "0"
        return f'<td class="number">{value}</td>'
    kind = ' class="number"' if type(value) is int else ""
    return f"<td{kind}>{_text(str(value))}</td>"


def _text(words: str) -> str:
    """Words as HTML, with powers of units as one writes them."""
    return html.escape(words.replace("^2", "²").replace("^3", "³"))
