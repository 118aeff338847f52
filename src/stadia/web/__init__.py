"""The pages of `stadia app`: a server, its child process that decodes uploads, and static files without other hosts."""
