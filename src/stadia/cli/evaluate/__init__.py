"""`stadia evaluate`: four programs, one for each kind of result that is scored."""
