"""What floor 3 builds on: batches, images and view synthesis with gradients, direct alignment, and the state of torch.

Cameras and poses themselves are in `stadia.geometry`, whose functions take tensors too.

- `batch`: what a training step exchanges.
- `images`, `depth_activations`, `segments`, `view_synthesis`: images with their cameras, raw outputs of networks,
  pixels of objects, and views of other cameras.
- `photometric_residuals`, `direct_alignment`, `window_solver`, `pose_graph`: motions that fit images, one pair or many.
- `alignment_kernels`: the compiled loops of direct alignment.
- `torch_state`, `torchvision_operators`: random generators and the library that multiplies matrices, and operators
  that torchvision misses.
"""
