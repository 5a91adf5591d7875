"""What of this machine is ours: CPUs, memory, GPUs. Light: read from /proc, /sys, /dev and nvidia-smi, never through torch.

What enters: the environment and the kernel's files, under a ``root`` that tests lay out anew. What leaves: plain facts, and who of several
workers gets which cores. Nothing is changed here: :mod:`workers.host.device` pins the process.
"""
