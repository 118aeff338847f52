"""Keep the findings of the data checks, and use them again where nothing changed that they follow from."""
