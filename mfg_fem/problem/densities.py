"""The densities of several crowds by name, as their callables get them."""

from collections.abc import Iterator, Mapping, Sequence

from mfg_fem.errors import ProblemError


class Densities(Mapping):
    """The density of each crowd by its name, m["tourists"], and their sum, m.all."""

    def __init__(self, names: Sequence[str], densities: Sequence):
        self._by_name = dict(zip(names, densities, strict=True))

    def __getitem__(self, name: str):
        """The density of one crowd."""
        if name not in self._by_name:
            raise ProblemError(f"m[{name!r}]: the crowds are {', '.join(map(repr, self))}")
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        """The names of the crowds."""
        return iter(self._by_name)

    def __len__(self) -> int:
        """Number of crowds."""
        return len(self._by_name)

    @property
    def all(self):
        """The density of everybody."""
        first, *others = self.values()
        return sum(others, first)

    def _refuse(self, *_):
        first = next(iter(self))
        raise ProblemError(
            "m has the densities of several crowds and is no number: write "
            f"m[{first!r}] for one of them, or m.all"
        )

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = (
        __pow__
    ) = __rpow__ = __neg__ = __float__ = __abs__ = _refuse


def spread(m) -> tuple:
    """The densities of one crowd or of several in a tuple."""
    return tuple(m.values()) if isinstance(m, Densities) else (m,)
