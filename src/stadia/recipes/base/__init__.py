"""What several recipes share: base classes, data of video, training workflow, commands of depth."""
