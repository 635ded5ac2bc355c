"""Training of differentiable transformation networks, and how accurate they and the closed forms are."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from simengine.dtn.camouflage import random_texture
from simengine.dtn.metrics import object_psnr, ssim
from simengine.dtn.network import TransformationNetwork, paint_share, reference_of
from simengine.dtn.references import ReferencePredictor
from simengine.dtn.sampler import ViewSampler
from simengine.dtn.texture import TextureMap, texture_map
from simengine.dtn.views import ViewSet, keep_views, object_crops, render_views
from simengine.render.tone import decode_srgb
from simengine.scene.grammar import Scene
from simengine.worlds.detectors.appearance import SHOWN, AppearanceTraining, beside_one_another, make_network
from simengine.worlds.detectors.variety import joined, random_curve, varied_views

if TYPE_CHECKING:
    from simengine.worlds.detectors.world import AppearanceNetworkSpec, CarSpec, DTNWorld, MeshSpec

Predict = Callable[[torch.Tensor], torch.Tensor]  # paint that broadcasts to (n, 3, h, w) -> pictures of all n views
Predictor = Callable[[torch.Tensor | slice, torch.Tensor], torch.Tensor]  # which views, their paint -> pictures
PATTERN = (16, 16)  # texels of the patterns a network is tested with
MIXED = 4  # texels in the mean that a pixel of a mosaic sees


def scene_views(scene: "DTNWorld", sampler: ViewSampler, number: int, *, device: torch.device | str = "cpu") -> ViewSet:
    """The first views of a sampler, without those that show less than half a pixel of the object or no paint.

    The last two sets are kept for the next call that asks for the same.

    Args:
        scene: Where they come from.
        sampler: Draws them.
        number: Of them.
        device: That the rays are cast on, and where the set lies.
    """
    return _scene_views(scene.object, sampler, number, scene.shape, scene.sky_rays, str(device)).to(device)


@functools.lru_cache(maxsize=2)
def _scene_views(
    spec: "CarSpec | MeshSpec", sampler: ViewSampler, number: int, size: tuple[int, int], sky_rays: int, device: str
) -> ViewSet:
    views = render_views(spec.surface(), sampler, range(number), size, sky_rays=sky_rays, device=device)
    seen = (views.object >= 0.5).flatten(1).any(1) & (views.paint > 0).flatten(1).any(1)
    if not bool(seen.any()):
        raise ValueError("views: none shows the painted object; check views.distance, the mesh and its paint material")
    return keep_views(views, seen)


def random_colours(number: int) -> torch.Tensor:
    """Flat paints uniform in encoded values, linear albedo, shape (number, 3, 1, 1), from torch's global generator."""
    return decode_srgb(torch.rand(number, 3, 1, 1))


def training(scene: Scene, *, device: str | None = None) -> "NetworkTraining":
    """The training of a scene on rendered views."""
    from simengine.worlds.detectors.world import AppearanceNetworkSpec, DTNWorld

    assert isinstance(scene.world, DTNWorld) and isinstance(scene.learner, AppearanceNetworkSpec)
    return NetworkTraining(scene.world, scene.learner, device=device)


class NetworkTraining(AppearanceTraining):
    """Random paints on random views; any colour of a view costs one multiply-add of its pair (A, B).

    Args:
        scene: Where the views come from.
        spec: Network and lengths.
        network: Trained in place; a new one if None.
        views: To train on; the scene's if None.
        device: Where all of it happens; None for the CPU.
    """

    reads = "one picture of a view in grey paint, the geometry of it, and any texture"
    caption = "unseen views and paints"

    def __init__(
        self,
        scene: "DTNWorld",
        spec: "AppearanceNetworkSpec",
        *,
        network: TransformationNetwork | None = None,
        views: ViewSet | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        if network is None:
            torch.manual_seed(scene.seed)
        self.scene: DTNWorld = scene
        self.device = torch.device(device or "cpu")
        if views is None:
            views = scene_views(scene, scene.sampler, scene.train_views, device=self.device)
        if spec.varied:
            sampler, surface, number = scene.sampler, scene.surface(), scene.train_views
            more = varied_views(surface, sampler, number, scene.shape, sky_rays=scene.sky_rays, device=self.device)
            views = joined([views, *more])
        self.views: ViewSet = object_crops(views, spec.crop) if 0 < spec.crop < min(scene.shape) else views
        self.reference = reference_of(self.views)
        super().__init__(spec, (make_network(spec) if network is None else network).to(self.device))

    def _paint(self, views: ViewSet) -> torch.Tensor:
        """Flat colours, or a colour for each pixel, on half of the views (as patterns are) only where there is paint.

        Heads act pixel by pixel, so that the expected loss of white noise is that of flat colours, with less variance.
        Patterns also have means of texels, which the mips make: `"mosaic"` gives them to that half of the views.
        """
        if self.spec.paints == "flat":
            return random_colours(len(views))
        noise = decode_srgb(torch.rand(views.gain.shape))
        pattern = torch.rand(len(views), 1, 1, 1) < 0.5
        if self.spec.paints == "mosaic":
            others = decode_srgb(torch.rand(MIXED - 1, *views.gain.shape)).sum(0)
            noise = torch.where(pattern, (noise + others) / MIXED, noise)
        return noise.to(self.device) * (~pattern.to(self.device) | (views.paint > 0))

    def _objective(self) -> Mapping[str, torch.Tensor]:
        index = torch.randint(len(self.views), (self.spec.batch,))
        views = self.views[index]
        reference, mask = self.reference[index], (views.object > 0).to(views.gain.dtype)
        if self.spec.varied:
            views = dataclasses.replace(views, tone=random_curve())
            seen = views.picture(torch.full((1, 3, 1, 1), reference.grey))
            reference = dataclasses.replace(reference, picture=seen, tone=None)
        maps = self.network.maps(reference)
        paint = self._paint(views)
        predicted, true = self.network.apply_maps(maps, reference, paint), views.picture(paint)
        terms = self._misfit(predicted, true, mask)
        if self._structured:  # of flat paints, since noise has a structure of its own
            flat = random_colours(self.spec.batch)
            terms |= self._structure(self.network.apply_maps(maps, reference, flat), views.picture(flat), mask)
        return terms

    def _tested(self) -> tuple[dict[str, Any], Any]:
        test = scene_views(self.scene, self.scene.test_sampler, self.scene.test_views, device=self.device)
        return evaluate_network(self.network, test), _predicted_beside_rendered(self.network, test)

    def _trained_on(self) -> dict[str, Any]:
        return {"paints": self.spec.paints, "views": self.scene.train_views, "size": list(self.scene.shape)}


def affine_predictor(views: ViewSet) -> Predictor:
    """Pictures of views by their affine law."""
    return lambda index, paint: views.picture(paint, index)


def network_predictor(network: TransformationNetwork, views: ViewSet) -> Predictor:
    """Pictures of views as a network predicts them from their grey references."""
    with torch.no_grad():
        reference = reference_of(views)
        maps = torch.cat([network.maps(reference[k : k + 8]) for k in range(0, len(views), 8)])
    return lambda index, paint: network.apply_maps(maps[index], reference[index], paint)


def _of_all(network: TransformationNetwork, views: ViewSet) -> Predict:
    return functools.partial(network_predictor(network, views), slice(None))


@dataclasses.dataclass(frozen=True, eq=False)
class UnseenPaints:
    """Paints that predictors are compared with: flat colours, and patterns put on triplanar.

    Attributes:
        views: The unseen views.
        colours: Number of flat paints, uniform in encoded values.
        patterns: Number of random mosaics of 16 x 16 texels.
    """

    views: ViewSet
    colours: int = 8
    patterns: int = 4

    @functools.cached_property
    def _drawn(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        generator = torch.Generator().manual_seed(11)

        def draw(number: int, *shape: int) -> list[torch.Tensor]:
            return [decode_srgb(torch.rand(*shape, generator=generator)) for _ in range(number)]

        return draw(self.colours, 1, 3, 1, 1), draw(self.patterns, *PATTERN, 3)

    @property
    def flat(self) -> list[torch.Tensor]:
        """Flat paints, each of shape (1, 3, 1, 1)."""
        return self._drawn[0]

    @property
    def textures(self) -> list[torch.Tensor]:
        """The patterns, each of shape (16, 16, 3)."""
        return self._drawn[1]

    @functools.cached_property
    def put_on(self) -> TextureMap:
        """Of the patterns."""
        return texture_map(self.views, PATTERN, mapping="triplanar")

    @property
    def mask(self) -> torch.Tensor:
        """1 on the object's pixels."""
        return (self.views.object >= 0.5).to(self.views.gain.dtype)

    def psnr(self, predict: Predict) -> dict[str, float]:
        """PSNR over the object's pixels of all views and paints together [dB]."""
        paints = {"flat": self.flat, "pattern": [self.put_on(texture) for texture in self.textures]}
        result = {}
        for name, those in paints.items():
            levels = [object_psnr(predict(paint), self.views.picture(paint), self.mask) for paint in those]
            result[name] = float(-10 * torch.log10((10 ** (-torch.stack(levels) / 10)).mean()))
        return result


def evaluate_network(
    network: TransformationNetwork, views: ViewSet, *, colours: int = 8, patterns: int = 4
) -> dict[str, Any]:
    """Accuracy on views and paints it was not trained on, and of the gradient to a texture.

    Returns:
        Object PSNR of flat paints and of random patterns [dB], SSIM of whole pictures and its mean over the object's
        pixels, cosine between the network's and the renderer's gradient of a random linear functional to a pattern.
    """
    paints, predict = UnseenPaints(views, colours, patterns), _of_all(network, views)
    psnr = paints.psnr(predict)
    pairs = [(predict(paint), views.picture(paint)) for paint in paints.flat]
    return {
        "object_psnr_flat": psnr["flat"],
        "object_psnr_pattern": psnr["pattern"],
        "ssim_picture": sum(float(ssim(*pair)) for pair in pairs) / len(pairs),
        "ssim_object": sum(float(ssim(*pair, paints.mask)) for pair in pairs) / len(pairs),
        "gradient_cosine": gradient_cosine(predict, views, paints.put_on, paints.textures[0]),
    }


def evaluate_closed_forms(views: ViewSet, *, colours: int = 8, patterns: int = 4) -> dict[str, dict[str, float]]:
    """Object PSNR [dB] of what needs no training, by the number of references: one with its geometry, 2, 3, 4 greys."""
    paints, reference = UnseenPaints(views, colours, patterns), reference_of(views)
    share = paint_share(reference)[:, None]
    start = TransformationNetwork("linear")
    summary = {"references_1": paints.psnr(lambda paint: start.apply_maps(share, reference, paint))}
    for number in (2, 3, 4):
        levels = decode_srgb(torch.linspace(0, 1, number))
        pictures = torch.stack([views.picture(level.view(1, 1, 1, 1)) for level in levels], 1)
        summary[f"references_{number}"] = paints.psnr(ReferencePredictor(levels, pictures))
    known = torch.stack([views.picture(torch.full((1, 3, 1, 1), level)) for level in (0.0, 1.0)], 1)
    exact = ReferencePredictor(torch.tensor([0.0, 1.0]), known, tone=views.tone)
    return {**summary, "references_2_tone_known": paints.psnr(exact)}


def gradient_cosine(predict: Predict, views: ViewSet, put_on: TextureMap, texture: torch.Tensor) -> float:
    """Cosine of the gradients of sum(W picture) to a texture, W white noise: the predictor's against the renderer's."""
    weight = torch.randn(views.gain.shape, generator=torch.Generator().manual_seed(5)).to(views.gain.device)
    gradients = []
    for picture in (predict, views.picture):
        leaf = texture.clone().requires_grad_()
        gradients.append(torch.autograd.grad((picture(put_on(leaf)) * weight).sum(), leaf)[0].flatten())
    return float(nn.functional.cosine_similarity(gradients[0], gradients[1], dim=0))


def _predicted_beside_rendered(network: TransformationNetwork, views: ViewSet) -> Any:
    """Grey reference, predicted, rendered and the error times five for eight views with patterns."""
    few = views[: min(SHOWN, len(views))]
    predict, put_on = _of_all(network, few), texture_map(few, PATTERN, mapping="triplanar")
    paint = put_on(random_texture(PATTERN, 1))
    predicted, rendered = predict(paint), few.picture(paint)
    error = (5 * (predicted - rendered).abs()).clamp(0, 1)
    rows = {"reference": reference_of(few).picture, "predicted": predicted, "rendered": rendered, "5 x error": error}
    return beside_one_another(rows)
