"""What happens beside the steps of a training: scalars, images, histograms, progress."""
