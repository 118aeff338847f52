"""What happens beside the steps: scalars, images, histograms, progress."""
