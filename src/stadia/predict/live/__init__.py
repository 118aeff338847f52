"""Predict a live stream: sources that reconnect, a camera trajectory tracked from frame to frame, and a running
verdict.
"""
