"""The figures of a run on images: what is drawn in them, of grey images and of those in colours."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from jaxnet.experiment.figures import images

DRAW = np.random.default_rng(0)


@pytest.fixture
def drawn(monkeypatch):
    """The figures, which are not saved."""
    kept = []
    monkeypatch.setattr(images, "save", lambda plt, figure, path: kept.append(figure))
    yield kept
    plt.close("all")


def held(figure):
    """Title and values of each image in a figure."""
    return [(axes.get_title(), np.asarray(axes.images[0].get_array())) for axes in figure.axes if axes.images]


def require_no_overlaps(figure):
    """No text lies on another one, or out of the figure."""
    figure.canvas.draw()
    texts = [axes.title for axes in figure.axes if axes.get_title()] + [figure._suptitle]
    boxes = [text.get_window_extent() for text in texts]
    for k, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0, texts[k]
        assert box.x1 <= figure.bbox.x1, texts[k]
        assert not any(box.overlaps(other) for other in boxes[k + 1 :]), texts[k]


def test_filters_are_drawn_on_one_scale(tmp_path, drawn):
    for channels in (1, 2, 3):
        W = DRAW.normal(size=(9, 3, 3, channels))
        images.draw_filters(tmp_path / "filters.png", W)
        require_no_overlaps(drawn[-1])
        found = [(title, values) for title, values in held(drawn[-1]) if title]
        assert [title for title, _ in found] == [str(number) for number in range(1, 10)]
        most = abs(W).max()
        for (_, values), of_filter in zip(found, W, strict=True):
            expected = of_filter / (2 * most) + 0.5 if channels == 3 else of_filter[..., 0]
            np.testing.assert_allclose(values if channels == 3 else values[:, :3], expected)
        assert len(drawn[-1].axes) == 16 + (channels != 3)
    images.draw_filters(tmp_path / "filters.png", np.zeros((70, 2, 2, 1)))
    assert drawn[-1]._suptitle.get_text() == "First convolution: 64 of 70 filters"


@pytest.mark.parametrize("channels", [1, 3])
def test_feature_maps_lie_beside_their_image(channels, tmp_path, drawn):
    image, maps = DRAW.normal(size=(4, 4, channels)), [DRAW.normal(size=(4, 4, 20)), DRAW.normal(size=(2, 2, 3))]
    images.draw_feature_maps(tmp_path / "features.png", image, maps, "golden retriever of a friend")
    require_no_overlaps(drawn[0])
    found = held(drawn[0])
    assert [title for title, _ in found if title] == ["is gold… friend", *map(str, range(1, 13)), "1", "2", "3"]
    assert found[0][1].shape == ((4, 4) if channels == 1 else (4, 4, 3))
    np.testing.assert_array_equal(found[3][1], maps[0][..., 2])
    np.testing.assert_array_equal(found[-1][1], maps[1][..., 2])
    labels = [axes.get_ylabel() for axes in drawn[0].axes if axes.get_ylabel()]
    assert labels == ["activation 1\n4 x 4\n20 channels", "activation 2\n2 x 2\n3 channels"]


@pytest.mark.parametrize(("channels", "many"), [(1, 8), (3, 2)])
def test_saliency_lies_below_each_image(channels, many, tmp_path, drawn):
    x, saliency = DRAW.normal(size=(many, 4, 4, channels)), abs(DRAW.normal(size=(many, 4, 4)))
    saliency[0] = 0
    images.draw_saliency(tmp_path / "saliency.png", x, saliency, [f"class {k}" for k in range(many)])
    require_no_overlaps(drawn[0])
    found = held(drawn[0])
    assert [title for title, _ in found[:many]] == [f"is class {k}" for k in range(many)]
    for (_, values), of_image in zip(found[many : 2 * many], saliency, strict=True):
        np.testing.assert_allclose(values, of_image / (of_image.max() or 1))


@pytest.mark.parametrize(("channels", "many"), [(1, 12), (3, 2)])
def test_the_largest_gradients_have_their_class_and_what_is_said(channels, many, tmp_path, drawn):
    x = DRAW.normal(size=(many, 4, 4, channels))
    said = ["golden retriever"] * many
    images.draw_largest(tmp_path / "largest.png", x, np.full(many, 12.345), ["labrador retriever"] * many, said)
    require_no_overlaps(drawn[0])
    assert [title for title, _ in held(drawn[0])] == ["is labrador…triever\nsaid golden retriever\nnorm 12.3"] * many
