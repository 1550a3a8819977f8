"""The face, as far as it codes: images as bytes and back."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from diffprob.codec.poisson import PoissonFunctional
from diffprob.denoise.variance import Variance
from diffprob.tasks.coding import AnyCoder
from diffprob.tasks.decoding import DecodeResult, decode, decode_progressively, read_coded
from diffprob.tasks.encoding import EncodeRequest, EncodeResult, encode
from diffprob.tasks.face import Face, Pictures


class Codes(Face):
    """The methods of `diffprob.tasks.model.Model` that code."""

    def encode(
        self,
        images: Pictures = None,
        *,
        coder: AnyCoder = PoissonFunctional(),
        n: int | None = 16,
        steps: int | None = None,
        variance: Variance | None = None,
        group: int | None = None,
        bits: float | None = None,
        psnr: float | None = None,
        seed: int = 0,
        split: str = "auto",
        resize: bool = False,
        place: str | Path | None = None,
    ) -> EncodeResult:
        """Images as bytes that say every one of their levels, and the first of them a coarse image; `diffprob encode`.

        Args:
            images, split, n, seed, resize, place: as in `data`; a batch is taken whole.
            coder, steps, variance, group: as in `diffprob.tasks.encoding.EncodeRequest`.
            bits, psnr: of a coarse image alone, in place of every level; as there.

        Raises:
            InputError: images of another kind, or a model whose steps have no code.
            NumericalError: what was decoded is not what was encoded, so no bytes are given out.
        """
        self._only_images("encoding")
        chosen = self._chosen(images, split=split, n=n, seed=seed, resize=resize, place=place)
        request = EncodeRequest(
            images=chosen,
            coder=coder,
            steps=steps,
            variance=variance,
            group=group,
            bits=bits,
            psnr=psnr,
            compute=self.compute,
        )
        return encode(self.run, request, self.reporter)

    def decode(self, data: bytes | str | Path, first_bytes: int | None = None, *, progressive: int = 0) -> DecodeResult:
        """The images in bytes, or what the first of them say; `diffprob decode`.

        Args:
            data: what `encode` gave, its ``data``, or the name of a file.
            first_bytes: read so many; None: all.
            progressive: the first so many images are followed on their way: ``frames`` and ``progression_png()``.

        Raises:
            InputError: no such file, a damaged one, one of another model, or one that this machine computes other bits
                for.
        """
        self._only_images("decoding")
        contents = data if isinstance(data, bytes) else read_coded(data)
        return decode(self.run, contents, first_bytes, self.compute, self.reporter, progressive)

    def decode_progressively(self, data: bytes | str | Path | Iterable[bytes]) -> Iterator[DecodeResult]:
        """What a file says as its bytes arrive: once for each time of the chain, from coarse to what `decode` gives.

        Args:
            data: as in `decode`; or an iterable of pieces, of which the next is asked for when it is needed.

        Raises:
            InputError: as `decode`, as soon as it shows.
        """
        self._only_images("decoding")
        if isinstance(data, str | Path):
            data = read_coded(data)
        return decode_progressively(self.run, [data] if isinstance(data, bytes) else data, self.compute)
