# # Tables and figures of `benchmark.py`
#
# Of rows that are dicts, column by column; "limit" holds the targets of a row.

import math
from itertools import product

import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter


def table(title, rows):
    """Aligned columns; a value above its target has a `!`."""
    columns = dict.fromkeys(name for row in rows for name in row if name != "limit")

    def cell(row, name):
        value, most = row.get(name, ""), row.get("limit", {}).get(name, math.inf)
        text = f"{value:.3g}" if isinstance(value, float) else str(value)
        return text + ("!" if name in row.get("limit", {}) and value > most else "")

    lines = [list(columns), *([cell(row, name) for name in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    print(f"\n{title}")
    for line in lines:
        print("  " + "  ".join(text.rjust(w) for text, w in zip(line, widths, strict=True)))


def groups(rows, *names):
    """Rows with the same values of these columns."""
    found = {}
    for row in rows:
        found.setdefault(tuple(row.get(name) for name in names), []).append(row)
    return found


def named(names, values):
    """Words, and numbers with their names."""
    pairs = zip(names, values, strict=True)
    return ", ".join(v if isinstance(v, str) else f"{name} {v:g}" for name, v in pairs)


def heat_map(figure, rows):
    """Counts and cost on the plane of D and c."""
    schemes = groups(rows, "scheme")
    columns = ("GMRES max", "CPU s/Mdof")
    for axes, column in zip(figure.subplots(2, len(schemes), squeeze=False), columns, strict=True):
        top = max(row[column] for row in rows)
        for ax, ((scheme,), part) in zip(axes, schemes.items(), strict=True):
            Ds, cs = (list(dict.fromkeys(row[k] for row in part)) for k in "Dc")
            values = np.array([row[column] for row in part]).reshape(len(Ds), len(cs))
            ax.imshow(values, cmap="Blues", vmin=0, vmax=1.4 * top)
            for (i, j), value in np.ndenumerate(values):
                ax.text(j, i, f"{value:.3g}", ha="center", va="center")
            ax.set_xticks(range(len(cs)), [f"{c:g}" for c in cs])
            ax.set_yticks(range(len(Ds)), [f"{D:g}" for D in Ds])
            ax.set(title=f"{column}, {scheme}", xlabel="coupling c", ylabel="D")


def curves(figure, rows, x, columns, by, logs="x"):
    """Columns against x, a line for each value of the columns `by`; logarithmic in axes `logs`."""
    rows = [row for row in rows if x in row]
    for ax, column in zip(np.atleast_1d(figure.subplots(1, len(columns))), columns, strict=True):
        styles = product(("-", "--"), "os^vD")
        for (key, part), (line, mark) in zip(groups(rows, *by).items(), styles, strict=False):
            part = sorted((row[x], row[column]) for row in part)
            ax.plot(*np.array(part).T, mark + line, ms=4, lw=1, label=named(by, key))
        ax.set(xlabel=x, ylabel=column, **({} if "y" in logs else {"ylim": (0, None)}))
        for name in logs:
            axis = getattr(ax, f"{name}axis")
            getattr(ax, f"set_{name}scale")("log")
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())
        ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)


def bars(figure, rows, column, names):
    """A bar for each row, a tick at its target."""
    ax = figure.subplots()
    labels = [named(names, [row[name] for name in names]) for row in rows]
    ax.barh(range(len(rows)), [row[column] for row in rows], color="tab:blue", alpha=0.6)
    for k, row in enumerate(rows):
        ax.plot([row.get("limit", {}).get(column, np.nan)] * 2, [k - 0.4, k + 0.4], "k", lw=1.5)
    ax.set_yticks(range(len(rows)), labels)
    ax.invert_yaxis()
    ax.set(xlabel=column)
    ax.spines[["top", "right"]].set_visible(False)
