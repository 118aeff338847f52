"""RoadWorld: rendered drives through random streets, as recordings in stadia's folder layout."""
