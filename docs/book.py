"""An extension of Sphinx: demos as pages, the gallery, the table of options, plain docstrings."""

import ast
import inspect
import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import mfg_fem as mfg
from mfg_fem import resnet

ROOT = Path(__file__).resolve().parents[1]
DEMOS = {path.stem: path for path in sorted((ROOT / "demos").glob("*.py"))}
DEMOS.pop("classification")  # what some of them share

# --- demos as pages ---

PICTURES = "MFG_FEM_BOOK_PICTURES"  # where demos leave their pictures for the gallery
SHOWN = "_images/gallery"
# Of all kernels: figures appear, sharp, and `meshes/` is where they run.
KERNEL = """\
c.InteractiveShellApp.exec_lines = [
    "%matplotlib inline",
    "import os as _os; _os.symlink({meshes!r}, 'meshes')",
]
c.InlineBackend.figure_formats = {{"retina"}}
"""

BEFORE = """\
%matplotlib agg
import os, sys
__file__ = {path!r}
sys.argv = {argv!r}
sys.path.insert(0, os.path.dirname(__file__))
"""
AFTER = """\
import shutil
from IPython.display import Image, display
for picture in [*sorted(Path("results").rglob("*.png")), *sorted(Path("results").rglob("*.gif"))]:
    display(Image(picture))
if Path("results").exists():
    shutil.copytree("results", os.environ["{PICTURES}"], dirs_exist_ok=True)
"""
HOW = """\
:::{{admonition}} How this page was made
It is {{download}}`demos/{name}.py <{name}.py>`, run while the book was built:

```bash
docker/run {command}
```
:::
"""


def read_demo(text: str, options: dict[str, str]):
    """The notebook of a demo: its command line first, its cells, its pictures."""
    import jupytext
    from nbformat.v4 import new_code_cell, new_markdown_cell

    name = next(name for name, path in DEMOS.items() if path.read_text() == text)
    argv = [f"demos/{name}.py", *shlex.split(options.get(name, ""))]
    hidden = {"tags": ["remove-input"]}
    notebook = jupytext.reads(text, "py:light")
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    notebook.cells = [
        new_code_cell(BEFORE.format(path=str(DEMOS[name]), argv=argv), metadata=hidden),
        *without_gaps(notebook.cells),
        new_code_cell(AFTER.format(PICTURES=PICTURES), metadata=hidden),
        new_markdown_cell(HOW.format(name=name, command=shlex.join(["python3", *argv]))),
    ]
    return notebook


def without_gaps(cells: list) -> Iterator:
    """The same cells with blocks of imports in one."""
    before = None
    for cell in cells:
        now = cell if cell.cell_type == "code" and only_imports(cell.source) else None
        if before and now:
            before.source += f"\n\n{now.source}"
            continue
        yield cell
        before = now


def only_imports(code: str) -> bool:
    """Whether it is nothing else."""
    return all(isinstance(part, ast.Import | ast.ImportFrom) for part in ast.parse(code).body)


def gallery(lines: list[str]) -> Iterator[str]:
    """Cards in MyST, one for each line "demo/picture.png what it shows"."""
    yield from ("::::{grid} 1 2 2 3", ":gutter: 3", "")
    for line in lines:
        picture, text = line.split(maxsplit=1)
        name = picture.split("/")[0]
        title = DEMOS[name].read_text().partition("\n")[0].removeprefix("# # ")
        yield from (f":::{{grid-item-card}} {title}", f":link: /demos/{name}", ":link-type: doc")
        if picture != name:
            yield f'<img src="{SHOWN}/{picture}" alt="{title}"/>'
        yield from ("", text, ":::")
    yield "::::"


def copy_pictures(app, error):
    """Put the pictures of the gallery where its page looks for them."""
    if error is None and app.builder.format == "html":
        shutil.copytree(os.environ[PICTURES], Path(app.outdir) / SHOWN, dirs_exist_ok=True)
        page = Path(app.outdir) / "gallery.html"
        for picture in re.findall(f'src="({SHOWN}/[^"]*)"', page.read_text()):
            if not (Path(app.outdir) / picture).exists():
                from sphinx.util import logging

                logging.getLogger(__name__).warning("the gallery misses %s", picture)


# --- the table of options ---

METHODS = (mfg.Newton, mfg.Checkpoint, mfg.Sinkhorn, mfg.Descent)
SCHEMES = (mfg.Sharp, mfg.Monotone, mfg.Galerkin, mfg.LagrangeGalerkin, mfg.Particles)
WAVES = (mfg.Relaxation, mfg.DelfourFortinPayre)
ENTRY = re.compile(r"^    (\w[\w, ]*): (.*?)(?=^    \w|^\S|\Z)", re.M | re.S)


def arguments(thing: Callable) -> dict[str, tuple[str, str]]:
    """Name -> default and meaning, of the signature and the docstring."""
    _, _, said = inspect.getdoc(thing).partition("\nArgs:\n")
    meanings = {
        name: " ".join(text.split())
        for names, text in ENTRY.findall(said)
        for name in names.split(", ")
    }
    return {
        name: ("" if p.default is p.empty else shown(p.default), meanings[name])
        for name, p in inspect.signature(thing).parameters.items()
    }


def shown(default: object) -> str:
    """A default as one would write it; a factory in the place of {} has no other."""
    return "{}" if "factory" in repr(default) else repr(default)


def options() -> Iterator[str]:
    """The table in MyST: of `solve`, of its methods and its schemes."""
    yield from ("| | option | default | what it does |", "|---|---|---|---|")
    for thing in (mfg.solve, *METHODS, *SCHEMES, *WAVES):
        first = f"{{py:obj}}`~mfg_fem.{thing.__name__}`"
        found = arguments(thing) or {"": ("", "has no options")}
        for name, (default, meaning) in found.items():
            cells = (first, name and f"`{name}`", default and f"`{default}`", meaning)
            yield "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"
            first = ""


# --- docstrings, which are plain text ---

PUBLIC = {
    name: f"{module.__name__}.{name}"
    for module in (resnet, mfg.plots, mfg.crowd, mfg)
    for name in module.__all__
}
SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Yields)\b.*:")


def restructured(lines: list[str]) -> Iterator[str]:
    """The lines of a docstring as reStructuredText: indented formulas, symbols, names."""
    section = literal = False
    before = ""
    for line in lines:
        if SECTION.fullmatch(line):
            section, literal, line = True, False, f"{SECTION.fullmatch(line)[1]}:"
        elif line and not line[0].isspace():
            section = literal = False
        elif line and not section and not literal and not before:
            literal = True
            yield from (".. code-block:: none", "")
        before = line
        yield line if literal else marked(line)


def marked(line: str) -> str:
    """A line without accidental markup; names of the package are links."""
    parts = re.split(r"(`[^`]*`|^\s*\* |(?<!\S)\*\w[^*`]*\*(?!\w))", line)
    for k in range(0, len(parts), 2):
        parts[k] = re.sub(r"[*|]|(?<=\w)_(?!\w)", r"\\\g<0>", parts[k])
    for k in range(1, len(parts), 2):
        name = parts[k].strip("`")
        parts[k] = f":py:obj:`~{PUBLIC[name]}`" if name in PUBLIC else parts[k]
    return "".join(parts)


def rewrite(app, what, name, thing, settings, lines):
    """Autodoc's docstring, before napoleon takes it."""
    lines[:] = restructured(lines)


def resolve(app, env, node, text):
    """Types of annotations by their public names; others stay plain text. Pages say py:obj."""
    if node.get("refdomain") != "py" or node["reftype"] != "class":
        return None
    name = PUBLIC.get(node["reftarget"].rpartition(".")[2])
    given = env, node["refdoc"], app.builder, "obj", name, node, text
    return (name and env.get_domain("py").resolve_xref(*given)) or text


def setup(app):
    """Connect it to Sphinx."""
    from sphinx.util.docutils import SphinxDirective

    class Gallery(SphinxDirective):
        has_content = True

        def run(self):
            return self.parse_text_to_nodes("\n".join(gallery(self.content)))

    class Options(SphinxDirective):
        def run(self):
            return self.parse_text_to_nodes("\n".join(options()))

    os.environ[PICTURES] = str(Path(app.doctreedir) / "pictures")
    os.environ["IPYTHONDIR"] = str(Path(app.doctreedir) / "ipython")
    profile = Path(os.environ["IPYTHONDIR"]) / "profile_default"
    for folder in (os.environ[PICTURES], profile):
        os.makedirs(folder, exist_ok=True)
    settings = KERNEL.format(meshes=str(ROOT / "meshes"))
    (profile / "ipython_kernel_config.py").write_text(settings)
    app.add_directive("gallery", Gallery)
    app.add_directive("options", Options)
    app.connect("autodoc-process-docstring", rewrite, priority=400)
    app.connect("missing-reference", resolve)
    app.connect("build-finished", copy_pictures)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
