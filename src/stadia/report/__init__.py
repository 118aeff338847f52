"""Formats for people, from files on disk, without torch. Imports core only."""
