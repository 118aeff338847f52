"""What several recipes share: base classes, data of video, the training workflow."""
