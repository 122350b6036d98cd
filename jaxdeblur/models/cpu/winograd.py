"""3x3 convolutions and their gradients with a quarter of the products, for XLA's CPU backend. NHWC.

Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray 2015, arXiv 1509.09308): the 16 outputs of a tile, which see
36 inputs, take 36 products instead of 144. Images and kernels are first summed up to these 36, each of which is then a
matrix product over all tiles, and the products are summed up to outputs. The gradient of a kernel is the same read
backwards. The sums are products with small matrices too: as loops over pixels XLA takes as long for them, seconds to
compile them, and writes them transposed where a product wants them so.

The points of interpolation are 0, 1, -1, 1/2, -2 and infinity, of which errors are small (Barabasz et al. 2018,
arXiv 1803.10986): up to 7e-6 of the largest output with 512 channels, against 7e-7 of the plain convolution.

On 2 cores, 2 images of 64x64: 256 to 256 channels take 17 ms instead of 33, 128 to 128 5 instead of 8.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeblur.models.cpu.im2col_gradients import Padding

TILE = 4  # outputs along each side that share their products
SUMS = 6  # along each side of a tile
BLOCK_BYTES = 2**26  # of a block's sums: images are taken by rows of tiles, as many as fit

# Six sums of a tile's inputs; six sums of the taps; four sums of the six products. Each along one side.
_INPUTS = np.array(
    [
        [1, -1.5, -2, 1.5, 1, 0],
        [0, -1, 0.5, 2.5, 1, 0],
        [0, 1, -2.5, 0.5, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 0.5, -1, -0.5, 1, 0],
        [0, 1, -1.5, -2, 1.5, 1],
    ]
)
_TAPS = np.array(
    [
        [1, 0, 0],
        [1 / 3, 1 / 3, 1 / 3],
        [-1 / 3, 1 / 3, -1 / 3],
        [-16 / 15, -8 / 15, -4 / 15],
        [1 / 15, -2 / 15, 4 / 15],
        [0, 0, 1],
    ]
)
_OUTPUTS = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 0.5, -2, 0], [0, 1, 1, 0.25, 4, 0], [0, 1, -1, 0.125, -8, 1]])


def pays(image: tuple[int, ...], kernel: tuple[int, ...], *, differentiated: bool) -> bool:
    """Return whether convolutions of stride 1 of images and kernels of these shapes are faster in this form.

    Where outputs are kept for a backward pass XLA keeps them by tiles too, and reads these wherever they are used: with
    few channels and small images that takes more than the products saved.
    """
    small = image[0] * image[1] * image[2] < 2**14
    least = 256 * 128 if differentiated and small else 128 * 128
    return gradients_pay(image, kernel) and kernel[2] * kernel[3] >= least


def gradients_pay(image: tuple[int, ...], kernel: tuple[int, ...]) -> bool:
    """Return whether gradients of images and kernels of these shapes are.

    On small images the sums of the kernel's taps take as long as what they save.
    """
    pixels, (size, _, inputs, features) = image[0] * image[1] * image[2], kernel
    return size == 3 and min(inputs, features) >= 128 and pixels > max(inputs, features)


def convolve(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    """Return the convolution of stride 1 of (B, H, W, in) with (3, 3, in, out), padded with zeros."""
    batch, height, width = x.shape[0], *(side + sum(pad) - 2 for side, pad in zip(x.shape[1:3], padding, strict=True))
    count, blocks, columns = _divide(batch, height, width, max(kernel.shape[2:]))
    image, filters = _pad(x, padding, count * blocks, columns), _sum_taps(kernel)

    def of_block(block: jax.Array | int) -> jax.Array:
        return _outputs(_sum_inputs(_rows(image, block, count, count + 1)), filters)

    outputs = of_block(0)[None] if blocks == 1 else jax.lax.map(of_block, jnp.arange(blocks))
    return _join(outputs, height, width)


def gradients(x: jax.Array, kernel: jax.Array, gradient: jax.Array, padding: Padding) -> tuple[jax.Array, jax.Array]:
    """Return the gradients of x and of the kernel from that of the output, (B, H', W', out).

    Both convolve the output's gradient, that of x with the kernel turned round and that of the kernel, turned round,
    with x: so they share the sums of the gradient's tiles.
    """
    batch, height, width, inputs = x.shape
    turned = kernel[::-1, ::-1].swapaxes(2, 3)  # (3, 3, out, in)
    opposite = tuple((2 - low, 2 - high) for low, high in padding)
    count, blocks, columns = _divide(batch, height, width, max(kernel.shape[2:]))
    image, filters = _pad(gradient, opposite, count * blocks, columns), _sum_taps(turned)
    rest = ((0, 0), (0, TILE * count * blocks - height), (0, TILE * columns - width), (0, 0))
    x = jnp.pad(x, rest)

    def of_block(total: jax.Array, block: jax.Array | int) -> tuple[jax.Array, jax.Array]:
        tiles = _sum_inputs(_rows(image, block, count, count + 1))  # (36, B, count, columns, out)
        pixels = _rows(x, block, count, count).reshape(batch, count, TILE, columns, TILE, inputs)
        # Channels come before tiles, as the product wants them: to turn the 16 pixels is less than to turn the 36 sums.
        pixels = pixels.transpose(2, 4, 5, 0, 1, 3).reshape(TILE * TILE, inputs, -1)
        sums = _times(np.kron(_OUTPUTS, _OUTPUTS).T, pixels)  # (36, in, tiles)
        total += jnp.einsum("sct,std->scd", sums, tiles.reshape(len(sums), -1, kernel.shape[3]))
        return total, _outputs(tiles, filters)

    total = jnp.zeros((SUMS * SUMS, *kernel.shape[2:]), x.dtype)
    if blocks == 1:
        total, outputs = of_block(total, 0)
        outputs = outputs[None]
    else:
        total, outputs = jax.lax.scan(of_block, total, jnp.arange(blocks))
    kernel_gradient = _times(np.kron(_TAPS, _TAPS).T, total).reshape(kernel.shape)[::-1, ::-1]
    return _join(outputs, height, width), kernel_gradient


def _divide(batch: int, height: int, width: int, channels: int) -> tuple[int, int, int]:
    """Return how many rows of tiles a block has, how many blocks and how many columns of tiles there are."""
    rows, columns = -(-height // TILE), -(-width // TILE)
    most = max(1, BLOCK_BYTES // (4 * SUMS * SUMS * batch * columns * channels))
    count = -(-rows // -(-rows // most))
    return count, -(-rows // count), columns


def _pad(x: jax.Array, padding: Padding, rows: int, columns: int) -> jax.Array:
    """Return the image with zeros around it, (B, 4 (rows + 1), 4 (columns + 1), in): what the tiles see."""
    around = [
        (low, TILE * (tiles + 1) - low - side, 0)
        for (low, _), tiles, side in zip(padding, (rows, columns), x.shape[1:3], strict=True)
    ]
    return jax.lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *around, (0, 0, 0)))


def _rows(image: jax.Array, block: jax.Array | int, count: int, taken: int) -> jax.Array:
    """Return the rows of tiles of a block of `count`."""
    return jax.lax.dynamic_slice_in_dim(image, TILE * count * block, TILE * taken, axis=1)


def _sum_taps(kernel: jax.Array) -> jax.Array:
    """Return the sums of a kernel's taps, (36, in, out)."""
    return _times(np.kron(_TAPS, _TAPS), kernel.reshape(9, *kernel.shape[2:]))


def _outputs(tiles: jax.Array, filters: jax.Array) -> jax.Array:
    """Return (B, 4 rows, 4 columns, out) of the sums of tiles, (36, B, rows, columns, in), and of taps."""
    products = jnp.einsum("sbhwc,scd->sbhwd", tiles, filters)
    outputs = _times(np.kron(_OUTPUTS, _OUTPUTS), products)  # (16, B, rows, columns, out)
    _, batch, rows, columns, features = outputs.shape
    outputs = outputs.reshape(TILE, TILE, batch, rows, columns, features).transpose(2, 3, 0, 4, 1, 5)
    return outputs.reshape(batch, TILE * rows, TILE * columns, features)


def _join(blocks: jax.Array, height: int, width: int) -> jax.Array:
    """Return the image that blocks of rows, (blocks, B, rows, columns, out), make, without what is beyond its sides."""
    number, batch, rows, columns, features = blocks.shape
    image = blocks.swapaxes(0, 1).reshape(batch, number * rows, columns, features)
    return image[:, :height, :width]


def _sum_inputs(image: jax.Array) -> jax.Array:
    """Return the sums of what each tile sees, (36, B, rows, columns, in), of (B, 4 (rows + 1), 4 (columns + 1), in)."""
    batch, height, width, channels = image.shape
    rows, columns = height // TILE - 1, width // TILE - 1
    image = image.reshape(batch, rows + 1, TILE, columns + 1, TILE, channels).transpose(2, 4, 0, 1, 3, 5)
    # Of its six rows and columns a tile shares the last two with the next.
    shared = SUMS - TILE
    image = jnp.concatenate([image[..., :columns, :], image[:, :shared, ..., 1:, :]], axis=1)
    image = jnp.concatenate([image[:, :, :, :rows], image[:shared, :, :, 1:]], axis=0)
    return _times(np.kron(_INPUTS, _INPUTS), image.reshape(SUMS * SUMS, batch, rows, columns, channels))


def _times(weights: np.ndarray, arrays: jax.Array) -> jax.Array:
    """Return weighted sums over the first axis."""
    sums = jnp.asarray(weights, arrays.dtype) @ arrays.reshape(len(arrays), -1)
    return sums.reshape(len(weights), *arrays.shape[1:])
