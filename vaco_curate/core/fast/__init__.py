"""The fast engine: several networks in one stack, and passes through them whose derivatives are written out.

It exists because an update's matrices are small: by torch and autograd, what surrounds a product costs as much
as the product. It holds no formula of the method. ``passes.new_pass`` gives the fastest pass there is for a
stack; ``torch_passes.Pass`` alone would do, at half the speed or less (docs/performance.md).
"""
