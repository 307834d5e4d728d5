"""What PyInstaller does not see: the kernels, which are imported by name at run time, in all their builds."""

from cyrnn import _kernels

hiddenimports = _kernels.modules()
