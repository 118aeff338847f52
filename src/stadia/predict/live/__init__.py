"""Predict a live stream: sources that reconnect, a path frame to frame, and a running verdict."""
