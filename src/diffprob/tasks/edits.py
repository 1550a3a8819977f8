"""The face, as far as it changes images that it is given."""

from typing import Unpack

from diffprob.base.errors import InputError
from diffprob.tasks.degradations import Degradation
from diffprob.tasks.editing import (
    AT,
    AT_LATENT,
    InterpolateRequest,
    ReconstructRequest,
    SampleFromRequest,
    interpolate,
    reconstruct,
    sample_from,
)
from diffprob.tasks.face import Drawing, Face, Pictures, draws
from diffprob.tasks.images import ImageSource
from diffprob.tasks.plan import Sampling
from diffprob.tasks.restoration import Restored, RestoreRequest, restore
from diffprob.tasks.rows import ImageRows
from diffprob.tasks.translation import Translated, TranslateRequest, TranslationMethod, translate


class Edits(Face):
    """The methods of `diffprob.tasks.model.Model` that go on from images.

    One image is a picture's path, DATA:INDEX such as "digits:0", or uint8 (C, H, W) in memory.
    """

    @draws
    def sample_from(
        self,
        image: Pictures,
        n: int = 8,
        *,
        at: tuple[float, ...] = AT,
        resize: bool = False,
        **drawing: Unpack[Drawing],
    ) -> ImageRows:
        """Draw from p(x_0 | x_t), where x_t is the image with noise added; those of `diffprob sample --from`.

        Args:
            image: which.
            n: images from each time.
            at: the times, in (0, 1], one row each.
            resize: convert an image of another size, channels or number of grey levels.
            drawing: the other keywords of `sample`.

        Raises:
            InputError: an image of another kind.
        """
        sampling = self._sampling(n, drawing)
        request = SampleFromRequest(image=self._given(image), at=at, sampling=sampling, resize=resize)
        return sample_from(self.run, request, self.reporter)

    @draws
    def reconstruct(
        self, image: Pictures, *, at: tuple[float, ...] = AT_LATENT, resize: bool = False, **drawing: Unpack[Drawing]
    ) -> ImageRows:
        """Take an image up to the noise by DDIM, and back; that of `diffprob sample --from --reconstruct`.

        Args:
            image: which.
            at: the times up to which, in (0, 1].
            resize: as in `sample_from`.
            drawing: the other keywords of `sample`.

        Raises:
            InputError: an image of another kind, or another sampler than DDIM().
        """
        sampling = self._sampling(1, drawing)
        request = ReconstructRequest(image=self._given(image), at=at, sampling=sampling, resize=resize)
        return reconstruct(self.run, request, self.reporter)

    @draws
    def interpolate(
        self,
        first: Pictures,
        second: Pictures,
        *,
        at: tuple[float, ...] | None = None,
        points: int = 9,
        noise: str | None = None,
        latent: bool = False,
        resize: bool = False,
        **drawing: Unpack[Drawing],
    ) -> ImageRows:
        """Mix two images at some level of noise, and take the noise out again; those of `diffprob interpolate`.

        Args:
            first, second: the images.
            at: times, one row each; None: 0.5, for latents 1.
            points: mixtures, ends included.
            noise: "shared", "independent" or "rescaled"; None: shared.
            latent: mix the latents that DDIM finds.
            resize: as in `sample_from`.
            drawing: the other keywords of `sample`.

        Raises:
            InputError: images of another kind, or options that exclude each other.
        """
        sampling = self._sampling(1, drawing)
        request = InterpolateRequest(
            first=self._given(first),
            second=self._given(second),
            at=at,
            points=points,
            noise=noise,
            latent=latent,
            sampling=sampling,
            resize=resize,
        )
        return interpolate(self.run, request, self.reporter)

    @draws
    def restore(
        self,
        images: Pictures,
        degradation: Degradation,
        *,
        clean: Pictures = None,
        n: int | None = None,
        **drawing: Unpack[Drawing],
    ) -> Restored:
        """Take noise out of images, fill in what is missing, or enlarge; those of `diffprob restore`.

        Args:
            images: which, as in `data`.
            degradation: what is wrong: ``dp.degradations.Denoise()``, ``Inpaint(box=...)`` or ``SuperResolve()``.
            clean: the images without flaw, to say how near the restored ones come.
            n: only the first so many; None: all.
            drawing: the other keywords of `sample`, for what is drawn.

        Raises:
            InputError: images of another kind, or options that do not go together.
        """
        request = RestoreRequest(
            images=self._given(images),
            degradation=degradation,
            clean=self._source(clean),
            n=n,
            sampling=self._sampling(Sampling.n, drawing),
        )
        return restore(self.run, request, self.reporter)

    @draws
    def translate(
        self,
        images: Pictures,
        method: TranslationMethod,
        *,
        n: int | None = None,
        split: str = "auto",
        resize: bool = False,
        **drawing: Unpack[Drawing],
    ) -> Translated:
        """Turn images of one kind into images of this model's kind; those of `diffprob translate`.

        Args:
            images: of the source's kind, as in `data`.
            method: ``DDIB()``, ``EGSDE(classifier=...)`` or ``SDEdit()`` of ``dp.translations``.
            n: only the first so many; None: all.
            split, resize: as in `data`.
            drawing: the other keywords of `sample`.

        Raises:
            InputError: images of another kind, or options that do not go together.
        """
        request = TranslateRequest(
            images=self._given(images),
            method=method,
            split=split,
            n=n,
            resize=resize,
            sampling=self._sampling(Sampling.n, drawing),
        )
        return translate(self.run, request, self.reporter)

    def _given(self, images: Pictures) -> ImageSource:
        self._only_images("this")
        source = self._source(images)
        if source is None:
            raise InputError("no images: a picture's path, DATA:INDEX or uint8 (n, C, H, W) would be right")
        return source
