"""The coefficients of forms as their kernels read them, cell by cell, kept between assemblies.

DOLFINx packs all of them anew at each assembly, a large part of its time on large meshes. Here only
the fields that a step changes are written anew, in place.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from dolfinx import cpp, fem

CELLS = 8192  # cells packed at a time, so that the dofs stay in the cache


class Packed:
    """Packed coefficients of forms, which share arrays where they can.

    The forms are on all cells, and others may come later. The only coefficients that change are
    `fields`, a Function with blocks of 2 k components, `corners`, the densities among them at
    the vertices of each cell, and `others`. These are written into the arrays alone; if more
    have changed, all are to `forget`.
    """

    def __init__(
        self,
        forms: Iterable[fem.Form],
        fields: fem.Function,
        corners: fem.Function,
        others: Sequence[fem.Function] = (),
    ):
        self.changing = fields, corners, others
        self.groups: list[_Group] = []
        # The longest lists come first: a form whose list begins another's shares its array.
        for form in sorted(forms, key=lambda form: -len(form._cpp_object.coefficients)):
            self._group(form)

    def _group(self, form: fem.Form) -> "_Group":
        names = form._cpp_object.coefficients
        found = next((group for group in self.groups if group.serves(names)), None)
        if not found:
            found = _Group(form, *self.changing)
            self.groups.append(found)
        return found

    def stale(self):
        """Note that the fields have changed."""
        for group in self.groups:
            group.stale = True

    def forget(self):
        """Note that other coefficients than the fields have changed: all are packed anew."""
        self.groups.clear()

    def of(self, form: fem.Form) -> dict:
        """The coefficients of the form, for DOLFINx's assemblers."""
        return self._group(form).packed()


class _Group:
    """The array of one form, shared by every form whose coefficients begin its list."""

    def __init__(
        self,
        form: fem.Form,
        fields: fem.Function,
        corners: fem.Function,
        others: Sequence[fem.Function],
    ):
        self.fields, self.stale = fields, True
        self.names = form._cpp_object.coefficients
        self.arrays = cpp.fem.pack_coefficients(form._cpp_object)
        sizes = [name.function_space.element.space_dimension for name in self.names]
        ends = dict(zip(self.names, pairwise(np.cumsum([0, *sizes])), strict=True))

        def places(function: fem.Function) -> list[np.ndarray]:
            """Where its values are in each array; empty on a rank without cells."""
            first, last = ends.get(function._cpp_object, (0, 0))
            return [y[:, first:last] for y in self.arrays.values() if last]

        self.places = [y.view(complex) for y in places(fields)]  # by pairs of numbers
        self.corners = places(corners)
        self.others = [(function, y) for function in others for y in places(function)]
        dofs = fields.function_space.dofmap.list
        self.dofs = dofs[: max(map(len, (*self.places, *self.corners)), default=0)]

    def serves(self, names: list) -> bool:
        """Whether these coefficients begin the list of this group."""
        return self.names[: len(names)] == names

    def packed(self) -> dict:
        """The arrays for DOLFINx's assemblers, with the present fields."""
        if self.stale:
            pairs = self.fields.x.array.view(complex)
            if (blocks := self.fields.function_space.dofmap.bs // 2) > 1:
                pairs = pairs.reshape(-1, blocks)
            for first in range(0, len(self.dofs), CELLS):
                some = slice(first, first + CELLS)
                values = pairs[self.dofs[some]]  # (cells, dofs) or (cells, dofs, populations)
                for place in self.places:
                    place[some] = values.reshape(len(values), -1)
                for place in self.corners:
                    by_population = values if blocks == 1 else values.swapaxes(1, 2)
                    place[some] = by_population.imag.reshape(len(values), -1)
            for function, place in self.others:
                dofmap = function.function_space.dofmap
                values = function.x.array.reshape(-1, dofmap.bs)[dofmap.list[: len(place)]]
                place[:] = values.reshape(place.shape)
            self.stale = False
        return self.arrays
