"""Many recordings: one result a recording, merged, ranked and compared."""
