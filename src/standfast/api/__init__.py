"""The HTTP interface: shapes in, shapes out; no rule lives here."""
