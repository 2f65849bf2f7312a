"""The densities of several crowds by name, as their callables get them."""

from collections.abc import Iterator, Mapping, Sequence

from mfg_fem.errors import ProblemError


class Densities(Mapping):
    """The density of each crowd by its name, m["tourists"], and their sum, m.all.

    Drifts v of crowds are such too.

    Attributes:
        quantities: each `Quantity` of the crowd that data may see, and what stands for it.
        symbol: what callables call it, for messages.
    """

    def __init__(
        self,
        names: Sequence[str],
        densities: Sequence,
        quantities: Mapping | None = None,
        symbol: str = "m",
    ):
        self._by_name = dict(zip(names, densities, strict=True))
        self.quantities, self.symbol = quantities or {}, symbol

    def __getitem__(self, name: str):
        """The density of one crowd."""
        if name not in self._by_name:
            raise ProblemError(
                f"{self.symbol}[{name!r}]: the crowds are {', '.join(map(repr, self))}"
            )
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

    @property
    def hint(self) -> str:
        """What to write in the place of m."""
        first = f"{self.symbol}[{next(iter(self))!r}]"
        if self.symbol == "v":
            return f"v has the drifts of several crowds: write {first} for one of them"
        return (
            "m has the densities of several crowds and is no number: write "
            f"{first} for one of them, or m.all"
        )

    def __repr__(self) -> str:
        """What UFL says of it, where it expects a number."""
        return f"<{self.hint}>"

    def _refuse(self, *_):
        raise ProblemError(self.hint)

    __lt__ = __le__ = __gt__ = __ge__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = (
        __pow__
    ) = __rpow__ = __neg__ = __float__ = __abs__ = _refuse


def spread(m) -> tuple:
    """The densities of one crowd or of several in a tuple."""
    return tuple(m.values()) if isinstance(m, Densities) else (m,)
