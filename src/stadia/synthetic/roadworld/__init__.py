"""RoadWorld: rendered drives through random streets, written as recordings in stadia's folder layout."""
