"""Frames of many recordings in shards: files of some megabytes in a folder or a store, with an index of offsets."""
