"""Where the middleware goes: each row of the README's table, with the real thing.

For every neighbour there is the right place, and what happens in the wrong one, so that the
table's "because" is a fact. Recipes that `docs/places.md` shows are modules of this folder.
"""
