"""The face, as far as it codes: images as bytes and back."""

from pathlib import Path

from diffprob.codec.coders import Coder
from diffprob.codec.poisson import PoissonFunctional
from diffprob.denoise.variance import Variance
from diffprob.tasks.decoding import DecodeResult, decode, read_coded
from diffprob.tasks.encoding import GROUP, EncodeRequest, EncodeResult, encode
from diffprob.tasks.face import Face, Pictures


class Codes(Face):
    """The methods of `diffprob.tasks.model.Model` that code."""

    def encode(
        self,
        images: Pictures = None,
        *,
        coder: Coder = PoissonFunctional(),
        n: int | None = 16,
        steps: int | None = None,
        variance: Variance | None = None,
        group: int = GROUP,
        seed: int = 0,
        split: str = "auto",
        resize: bool = False,
        place: str | Path | None = None,
    ) -> EncodeResult:
        """Images as bytes that say every one of their levels, and the first of them a coarse image; `diffprob encode`.

        Args:
            images, split, n, seed, resize, place: as in `data`; a batch is taken whole.
            coder, steps, variance, group: as in `diffprob.tasks.encoding.EncodeRequest`.

        Raises:
            InputError: images of another kind, or a model whose steps have no code.
            NumericalError: what was decoded is not what was encoded, so no bytes are given out.
        """
        self._only_images("encoding")
        chosen = self._chosen(images, split=split, n=n, seed=seed, resize=resize, place=place)
        request = EncodeRequest(
            images=chosen, coder=coder, steps=steps, variance=variance, group=group, compute=self.compute
        )
        return encode(self.run, request, self.reporter)

    def decode(self, data: bytes | str | Path, first_bytes: int | None = None) -> DecodeResult:
        """The images in bytes, or what the first of them say; `diffprob decode`.

        Args:
            data: what `encode` gave, its ``data``, or the name of a file.
            first_bytes: read so many; None: all.

        Raises:
            InputError: no such file, a damaged one, one of another model, or one that this machine computes other bits
                for.
        """
        self._only_images("decoding")
        contents = data if isinstance(data, bytes) else read_coded(data)
        return decode(self.run, contents, first_bytes, self.compute, self.reporter)
