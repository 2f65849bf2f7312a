"""The coefficients of forms as their kernels read them, cell by cell, kept from call to call.

DOLFINx packs all of them into new arrays at each assembly, which on large meshes takes a third to
a half of the time of a row. Here only what a step changes is written anew, in place.
"""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np

from dolfinx import cpp, fem

CELLS = 8192  # at a time, so that what is taken stays in the cache


class Packed:
    """Packed coefficients of forms, which share arrays where they can.

    Args:
        forms: compiled forms on all cells; others may come later.
        fields: the one coefficient that changes, a Function with blocks of 2 k components.
    """

    def __init__(self, forms: Iterable[fem.Form], fields: fem.Function):
        self.fields = fields
        self.groups: list[_Group] = []
        # The longest lists first: a form whose own list begins another's reads that one's array.
        for form in sorted(forms, key=lambda form: -len(form._cpp_object.coefficients)):
            self._group(form)

    def _group(self, form: fem.Form) -> "_Group":
        names = form._cpp_object.coefficients
        found = next((group for group in self.groups if group.serves(names)), None)
        if not found:
            found = _Group(form, self.fields)
            self.groups.append(found)
        return found

    def stale(self):
        """The fields have changed."""
        for group in self.groups:
            group.stale = True

    def of(self, form: fem.Form) -> dict:
        """The coefficients of the form, for DOLFINx's assemblers."""
        return self._group(form).packed()


class _Group:
    """The array of one form and of all whose coefficients are the first ones of it."""

    def __init__(self, form: fem.Form, fields: fem.Function):
        self.fields, self.stale = fields, True
        self.names = form._cpp_object.coefficients
        self.arrays = cpp.fem.pack_coefficients(form._cpp_object)
        sizes = [name.function_space.element.space_dimension for name in self.names]
        ends = dict(zip(self.names, pairwise(np.cumsum([0, *sizes])), strict=True))
        first, last = ends.get(fields._cpp_object, (0, 0))
        # What to renew of each, two numbers at a time; nothing on a rank without cells.
        self.places = [y[:, first:last].view(complex) for y in self.arrays.values() if last]
        dofs = fields.function_space.dofmap.list
        self.dofs = dofs[: max((len(place) for place in self.places), default=0)]

    def serves(self, names: list) -> bool:
        """Whether these are the first of its coefficients."""
        return self.names[: len(names)] == names

    def packed(self) -> dict:
        """What DOLFINx's assemblers take."""
        if self.stale:
            pairs = self.fields.x.array.view(complex)
            if (blocks := self.fields.function_space.dofmap.bs // 2) > 1:
                pairs = pairs.reshape(-1, blocks)
            for first in range(0, len(self.dofs), CELLS):
                some = slice(first, first + CELLS)
                values = pairs[self.dofs[some]].reshape(-1, blocks * self.dofs.shape[1])
                for place in self.places:
                    place[some] = values
            self.stale = False
        return self.arrays
