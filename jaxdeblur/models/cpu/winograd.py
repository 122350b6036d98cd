"""3x3 convolutions and their gradients with a quarter of the multiplications, for XLA's CPU backend. NHWC.

Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray 2015, arXiv 1509.09308). With d a 6x6 patch of the input, g a
3x3 kernel and * the elementwise product summed over input channels, a 4x4 output tile is

    A [(G g G^T) * (B d B^T)] A^T,

which takes 36 multiplications instead of 144. Each of the 36 elements is a matrix product over all tiles. The kernel's
gradient is the transposed computation. All three transforms are products with the Kronecker square of A, B or G: as
loops over pixels they would take as long as the products, seconds to compile, and yield a layout that the products have
to transpose.

The interpolation points 0, 1, -1, 1/2, -2 and infinity keep rounding errors small (Barabasz et al. 2018, arXiv
1803.10986): up to 7e-6 of the largest output with 512 channels, against 7e-7 for the plain convolution.

On 2 cores, 2 images of 64x64: 256 to 256 channels take 17 ms instead of 33, 128 to 128 5 ms instead of 8.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeblur.models.cpu.im2col_gradients import Padding

TILE = 4  # height and width of an output tile
PATCH = 6  # height and width of the input patch that a tile depends on
BLOCK_BYTES = 2**26  # memory for one block's transformed patches; images are processed in blocks of tile rows

INPUT_TRANSFORM = np.array(  # B
    [
        [1, -1.5, -2, 1.5, 1, 0],
        [0, -1, 0.5, 2.5, 1, 0],
        [0, 1, -2.5, 0.5, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 0.5, -1, -0.5, 1, 0],
        [0, 1, -1.5, -2, 1.5, 1],
    ]
)
KERNEL_TRANSFORM = np.array(  # G
    [
        [1, 0, 0],
        [1 / 3, 1 / 3, 1 / 3],
        [-1 / 3, 1 / 3, -1 / 3],
        [-16 / 15, -8 / 15, -4 / 15],
        [1 / 15, -2 / 15, 4 / 15],
        [0, 0, 1],
    ]
)
OUTPUT_TRANSFORM = np.array(  # A
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 0.5, -2, 0], [0, 1, 1, 0.25, 4, 0], [0, 1, -1, 0.125, -8, 1]]
)


def is_faster(image: tuple[int, ...], kernel: tuple[int, ...], *, differentiated: bool) -> bool:
    """Return whether the forward pass is faster by this algorithm, for these shapes and stride 1.

    When outputs are kept for a backward pass, XLA keeps them in the layout of tiles and rearranges them wherever they
    are used: with few channels and small images that costs more than the saved multiplications.
    """
    small = image[0] * image[1] * image[2] < 2**14
    least = 256 * 128 if differentiated and small else 128 * 128
    return gradients_are_faster(image, kernel) and kernel[2] * kernel[3] >= least


def gradients_are_faster(image: tuple[int, ...], kernel: tuple[int, ...]) -> bool:
    """Return whether the backward pass is faster by this algorithm, for these shapes and stride 1.

    On small images, transforming the kernel takes as long as what it saves.
    """
    pixels, (size, _, inputs, features) = image[0] * image[1] * image[2], kernel
    return size == 3 and min(inputs, features) >= 128 and pixels > max(inputs, features)


def convolve(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    """Return the convolution of stride 1 of (B, H, W, in) with (3, 3, in, out), zero-padded."""
    batch = x.shape[0]
    height, width = (side + sum(pad) - 2 for side, pad in zip(x.shape[1:3], padding, strict=True))
    rows, blocks, columns = _divide(batch, height, width, max(kernel.shape[2:]))
    image, filters = _pad(x, padding, rows * blocks, columns), _transform_kernel(kernel)

    def convolve_block(block: jax.Array | int) -> jax.Array:
        return _output_tiles(_transform_patches(_tile_rows(image, block, rows, rows + 1)), filters)

    outputs = convolve_block(0)[None] if blocks == 1 else jax.lax.map(convolve_block, jnp.arange(blocks))
    return _join_blocks(outputs, height, width)


def gradients(x: jax.Array, kernel: jax.Array, gradient: jax.Array, padding: Padding) -> tuple[jax.Array, jax.Array]:
    """Return the gradients of x and of the kernel, given the output's, (B, H', W', out).

    Both are convolutions of the output's gradient: x's with the flipped kernel, and the kernel's, flipped, with x. So
    they share its transformed patches.
    """
    batch, height, width, inputs = x.shape
    flipped = kernel[::-1, ::-1].swapaxes(2, 3)  # (3, 3, out, in)
    (top, bottom), (left, right) = padding
    opposite = ((2 - top, 2 - bottom), (2 - left, 2 - right))
    rows, blocks, columns = _divide(batch, height, width, max(kernel.shape[2:]))
    image, filters = _pad(gradient, opposite, rows * blocks, columns), _transform_kernel(flipped)
    x = jnp.pad(x, ((0, 0), (0, TILE * rows * blocks - height), (0, TILE * columns - width), (0, 0)))

    def add_block(total: jax.Array, block: jax.Array | int) -> tuple[jax.Array, jax.Array]:
        patches = _transform_patches(_tile_rows(image, block, rows, rows + 1))  # (36, B, row, column, out)
        tiles = _tile_rows(x, block, rows, rows).reshape(batch, rows, TILE, columns, TILE, inputs)
        # (batch, row, y, column, x, in) -> (y, x, in, batch, row, column): channels precede tiles, as the product needs
        # them. Transposing the 16 pixels is cheaper than transposing the 36 transformed elements.
        tiles = tiles.transpose(2, 4, 5, 0, 1, 3).reshape(TILE * TILE, inputs, -1)
        elements = _weighted_sums(np.kron(OUTPUT_TRANSFORM, OUTPUT_TRANSFORM).T, tiles)  # (36, in, tiles)
        total += jnp.einsum("sct,std->scd", elements, patches.reshape(len(elements), -1, kernel.shape[3]))
        return total, _output_tiles(patches, filters)

    total = jnp.zeros((PATCH * PATCH, *kernel.shape[2:]), x.dtype)
    if blocks == 1:
        total, outputs = add_block(total, 0)
        outputs = outputs[None]
    else:
        total, outputs = jax.lax.scan(add_block, total, jnp.arange(blocks))
    kernel_gradient = _weighted_sums(np.kron(KERNEL_TRANSFORM, KERNEL_TRANSFORM).T, total)  # (9, in, out)
    return _join_blocks(outputs, height, width), kernel_gradient.reshape(kernel.shape)[::-1, ::-1]


def _divide(batch: int, height: int, width: int, channels: int) -> tuple[int, int, int]:
    """Return the number of tile rows per block, of blocks, and of tile columns."""
    tile_rows, tile_columns = -(-height // TILE), -(-width // TILE)
    most = max(1, BLOCK_BYTES // (4 * PATCH * PATCH * batch * tile_columns * channels))
    rows = -(-tile_rows // -(-tile_rows // most))
    return rows, -(-tile_rows // rows), tile_columns


def _pad(x: jax.Array, padding: Padding, rows: int, columns: int) -> jax.Array:
    """Zero-pad or crop to (B, 4 (rows + 1), 4 (columns + 1), C), which contains every tile's patch."""
    config = [
        (low, TILE * (tiles + 1) - low - side, 0)
        for (low, _), tiles, side in zip(padding, (rows, columns), x.shape[1:3], strict=True)
    ]
    return jax.lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *config, (0, 0, 0)))


def _tile_rows(image: jax.Array, block: jax.Array | int, rows_per_block: int, count: int) -> jax.Array:
    """Return `count` rows of tiles from the start of a block."""
    return jax.lax.dynamic_slice_in_dim(image, TILE * rows_per_block * block, TILE * count, axis=1)


def _transform_kernel(kernel: jax.Array) -> jax.Array:
    """Return G g G^T of a kernel (3, 3, in, out) as (36, in, out)."""
    return _weighted_sums(np.kron(KERNEL_TRANSFORM, KERNEL_TRANSFORM), kernel.reshape(9, *kernel.shape[2:]))


def _transform_patches(image: jax.Array) -> jax.Array:
    """Return B d B^T of every patch of (B, 4 (rows + 1), 4 (columns + 1), C) as (36, B, row, column, C)."""
    batch, height, width, channels = image.shape
    rows, columns = height // TILE - 1, width // TILE - 1
    image = image.reshape(batch, rows + 1, TILE, columns + 1, TILE, channels)
    image = image.transpose(2, 4, 0, 1, 3, 5)  # (batch, row, y, column, x, C) -> (y, x, batch, row, column, C)
    # A patch's last two rows and columns are the first two of the next tile.
    shared = PATCH - TILE
    image = jnp.concatenate([image[..., :columns, :], image[:, :shared, ..., 1:, :]], axis=1)  # x: 4 -> 6
    image = jnp.concatenate([image[:, :, :, :rows], image[:shared, :, :, 1:]], axis=0)  # y: 4 -> 6
    patches = image.reshape(PATCH * PATCH, batch, rows, columns, channels)
    return _weighted_sums(np.kron(INPUT_TRANSFORM, INPUT_TRANSFORM), patches)


def _output_tiles(patches: jax.Array, filters: jax.Array) -> jax.Array:
    """Return the outputs of transformed patches and kernels.

    Args:
        patches: (36, B, row, column, in).
        filters: (36, in, out).

    Returns:
        (B, 4 rows, 4 columns, out).
    """
    products = jnp.einsum("sbhwc,scd->sbhwd", patches, filters)
    tiles = _weighted_sums(np.kron(OUTPUT_TRANSFORM, OUTPUT_TRANSFORM), products)  # (16, B, row, column, out)
    _, batch, rows, columns, features = tiles.shape
    tiles = tiles.reshape(TILE, TILE, batch, rows, columns, features)
    tiles = tiles.transpose(2, 3, 0, 4, 1, 5)  # (y, x, batch, row, column, out) -> (batch, row, y, column, x, out)
    return tiles.reshape(batch, TILE * rows, TILE * columns, features)


def _join_blocks(blocks: jax.Array, height: int, width: int) -> jax.Array:
    """Return the image (B, height, width, C) of blocks of rows, (block, B, rows, columns, C)."""
    number, batch, rows, columns, features = blocks.shape
    image = blocks.swapaxes(0, 1).reshape(batch, number * rows, columns, features)
    return image[:, :height, :width]


def _weighted_sums(weights: np.ndarray, arrays: jax.Array) -> jax.Array:
    """Return the products of a matrix with the first axis of `arrays`."""
    sums = jnp.asarray(weights, arrays.dtype) @ arrays.reshape(len(arrays), -1)
    return sums.reshape(len(weights), *arrays.shape[1:])
