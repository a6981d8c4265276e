# SPDX-License-Identifier: Apache-2.0
"""Two photographs as arrays: filters, edges, segments, patches. A notebook."""

# %% Parameters
SCALE = 1.0
SEED = 1

# %% Imports
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy import ndimage
from sklearn.cluster import KMeans
from sklearn.datasets import load_sample_images
from sklearn.decomposition import PCA
from sklearn.feature_extraction.image import extract_patches_2d, reconstruct_from_patches_2d

rng = np.random.default_rng(SEED)

# %% Load
images = load_sample_images().images
step = 1 if SCALE >= 0.5 else 4
photo, flower = (image[::step, ::step].copy() for image in images)
photo.shape, photo.dtype

# %% As numbers between 0 and 1
photo = photo / 255.0
flower = flower / 255.0
gray = photo @ [0.299, 0.587, 0.114]

# %% Histograms
histograms = {color: np.histogram(photo[..., i], 64, (0, 1))[0] for i, color in enumerate("rgb")}
figure, axes = plt.subplots(figsize=(6, 3))
for color, values in histograms.items():
    axes.plot(values, color=color)

# %% Crop
roof = photo[: len(photo) // 2, 50:-50]
roof.mean(axis=(0, 1))

# %% Brighten a part, in place (the crop is a view)
roof *= 1.1
np.clip(photo, 0, 1, out=photo)

# %% Blur
blurred = {sigma: ndimage.gaussian_filter(gray, sigma) for sigma in (1, 2, 4)}
detail = gray - blurred[2]

# %% Edges
edges = np.hypot(ndimage.sobel(gray, 0), ndimage.sobel(gray, 1))
mask = edges > np.quantile(edges, 0.9)
mask.mean()

# %% Clean the mask
mask = ndimage.binary_closing(mask, iterations=2)
labels, count = ndimage.label(mask)
sizes = pd.Series(np.bincount(labels.ravel())[1:]).sort_values(ascending=False)

# %% Forget the small ones
small = np.flatnonzero(np.bincount(labels.ravel()) < 50)
labels[np.isin(labels, small)] = 0

# %% Noise
noisy = gray + rng.normal(0, 0.08, gray.shape)
errors = {"noisy": float(np.mean((noisy - gray) ** 2))}

# %% Denoise by a median
median = ndimage.median_filter(noisy, 3)
errors["median"] = float(np.mean((median - gray) ** 2))

# %% Patches
patches = extract_patches_2d(
    noisy, (8, 8), max_patches=int(8000 * min(SCALE, 1)) + 500, random_state=SEED
)
flat = patches.reshape(len(patches), -1)
flat = flat - flat.mean(axis=1, keepdims=True)

# %% A basis of patches
basis = PCA(16, random_state=SEED).fit(flat)
basis.explained_variance_ratio_.sum()

# %% Denoise a window with it
window = noisy[80:180, 80:180] if step == 1 else noisy[:60, :60]
pieces = extract_patches_2d(window, (8, 8)).reshape(-1, 64)
means = pieces.mean(axis=1, keepdims=True)
rebuilt = basis.inverse_transform(basis.transform(pieces - means)) + means
denoised = reconstruct_from_patches_2d(rebuilt.reshape(-1, 8, 8), window.shape)

# %% Colors
pixels = photo.reshape(-1, 3)
palette = KMeans(8, n_init=1, random_state=SEED).fit(pixels[:: max(1, len(pixels) // 5000)])
segments = palette.predict(pixels).reshape(gray.shape)

# %% Poster
poster = palette.cluster_centers_[segments]
poster.shape

# %% Recolor one segment
poster[segments == 3] = (1.0, 0.9, 0.2)

# %% The other one with the same palette
other = palette.predict(flower.reshape(-1, 3)).reshape(flower.shape[:2])
shares = pd.DataFrame(
    {
        "photo": np.bincount(segments.ravel(), minlength=8),
        "flower": np.bincount(other.ravel(), minlength=8),
    }
)

# %% Rotations
stack = np.stack([ndimage.rotate(gray, angle, reshape=False) for angle in (0, 5, 10)])
stack.shape

# %% The mean picture
mean = stack.mean(axis=0)
stack[0] = mean

# %% A gallery
figure, panels = plt.subplots(2, 3, figsize=(10, 6))
for panel, (title, picture) in zip(
    panels.flat,
    {
        "gray": gray,
        "edges": edges,
        "noisy": noisy,
        "median": median,
        "poster": poster,
        "mean": mean,
    }.items(),
):
    panel.imshow(picture, cmap="gray")
    panel.set_title(title)

# %% Errors
table = pd.Series(errors).sort_values()
table
