"""Frames to latents and back: diffusers' deep-compression autoencoder, f32c32 (Chen et al. 2024, arXiv 2410.10733).

Three sizes share one class. `full` is the published model's configuration. `compact` and `tiny` fold blocks of pixels
into channels in front of a much smaller network (`pixel_unshuffle`), which keeps the latent's shape and makes decoding
quick on a CPU, and code the difference from a background frame, since most of a Pac-Man screen never changes.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderDC
from torch import Tensor, nn

from neural_pacman.devices import multiplies_bfloat16
from neural_pacman.frames import FRAME_SIZE, to_tensor
from neural_pacman.looks import Cause, Place, Signs, Sprites, spots

LATENT_CHANNELS = 32
LATENT_SIZE = 16
COMPRESSION = FRAME_SIZE // LATENT_SIZE

DEAD_ZONE = 16 / 127.5
"""How far a pixel must differ from the background to be shown, on the scale of [-1, 1]: a small network cannot keep
thousands of black pixels exactly black, and their faint glow was 40% of the whole error."""

DECIDED_AT = 0.45
"""How far from its darker to its brighter look a spot that has two must be, 0 to 1, to be shown as the brighter one: a
small network draws what it is not sure of too dark."""
LASTS = 0.2
"""How much farther than that it must be if it was the darker one in the frame before."""
DOUBT = 0.3
"""How far from `DECIDED_AT`, either way, a spot of which nothing is known yet is in doubt, so the encoder is asked."""
RENEWED = 20
"""Spots that change together for them to do so wherever they are."""
MAX_OFF = 60 / 127.5
"""How far, in one colour, a pixel may be from the line between them: farther off is something else, such as a ghost."""


MOST_LIVE = 0.5
"""Share of the places above which it does not pay to pass over the others."""


@dataclass(frozen=True)
class AutoencoderConfig:
    """Shape of a frame autoencoder.

    Attributes:
        pixel_unshuffle: side of the pixel blocks folded into channels before the network (1: none).
        encoder_widths, decoder_widths: channels of each stage, finest first; neighbours must divide as
            `AutoencoderDC` wants. The stages and the unshuffle together shrink a frame 32 times.
        encoder_layers, decoder_layers: blocks in each stage.
        block_types: `ResBlock` or `EfficientViTBlock`, for each stage.
        decoder_norms, decoder_activations: of each decoder stage.
        scaling_factor: latents times this have a standard deviation near 1.
    """

    pixel_unshuffle: int = 1
    encoder_widths: tuple[int, ...] = (128, 256, 512, 512, 1024, 1024)
    decoder_widths: tuple[int, ...] = (128, 256, 512, 512, 1024, 1024)
    encoder_layers: tuple[int, ...] = (0, 4, 8, 2, 2, 2)
    decoder_layers: tuple[int, ...] = (0, 5, 10, 2, 2, 2)
    block_types: tuple[str, ...] = ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3
    decoder_norms: tuple[str, ...] = ("batch_norm",) * 3 + ("rms_norm",) * 3
    decoder_activations: tuple[str, ...] = ("relu",) * 3 + ("silu",) * 3
    scaling_factor: float = 1.0

    def build(self) -> AutoencoderDC:
        """A network with random weights."""
        plain_attention = ((),) * len(self.block_types)
        return AutoencoderDC(
            in_channels=3 * self.pixel_unshuffle**2,
            latent_channels=LATENT_CHANNELS,
            attention_head_dim=32,
            encoder_block_types=self.block_types,
            decoder_block_types=self.block_types,
            encoder_block_out_channels=self.encoder_widths,
            decoder_block_out_channels=self.decoder_widths,
            encoder_layers_per_block=self.encoder_layers,
            decoder_layers_per_block=self.decoder_layers,
            encoder_qkv_multiscales=plain_attention,
            decoder_qkv_multiscales=plain_attention,
            decoder_norm_types=self.decoder_norms,
            decoder_act_fns=self.decoder_activations,
            scaling_factor=self.scaling_factor,
        )


def _small(
    widths: tuple[int, int], encoder_layers: tuple[int, int], decoder_layers: tuple[int, int]
) -> AutoencoderConfig:
    return AutoencoderConfig(
        pixel_unshuffle=16,
        encoder_widths=widths,
        decoder_widths=widths,
        encoder_layers=encoder_layers,
        decoder_layers=decoder_layers,
        block_types=("ResBlock",) * 2,
        decoder_norms=("rms_norm",) * 2,
        decoder_activations=("silu",) * 2,
    )


AUTOENCODERS = {
    "tiny": _small((16, 32), (1, 1), (1, 1)),
    "compact": _small((96, 128), (1, 1), (2, 2)),
    "full": AutoencoderConfig(scaling_factor=0.3189),
}
"""Sizes by name. `full` has 323,356,460 parameters (`mit-han-lab/dc-ae-f32c32-in-1.0-diffusers`)."""


class Decoded(NamedTuple):
    """Frames `[N, 3, h, w]` as they are shown; what is known of these, int16 `[N, M]`; and what they tell of the step
    from the frames before: `points` that spots brought, int64 `[N]`, negative where that is not known, and whether a
    life was `lost`, or all is `over` since it was the last one, bool `[N]`.
    """

    shown: Tensor
    known: Tensor
    points: Tensor
    lost: Tensor
    over: Tensor


def nothing_told(frames: Tensor, known: Tensor) -> Decoded:
    """Frames of which no more is known than before."""
    no = torch.zeros(len(frames), dtype=torch.bool, device=frames.device)
    return Decoded(frames, known, no.long() - 1, no, no)


class SparseConv2d(nn.Conv2d):
    """A 3 x 3 convolution that passes over places where its input is zero, as most of a frame's difference is.

    It does so where nothing is to be learned, on a CPU and in float32: 2.5 times as fast for frames of the game.
    """

    def forward(self, input: Tensor) -> Tensor:
        places = input.movedim(1, -1)
        if torch.is_grad_enabled() or torch.is_autocast_enabled(input.device.type) or input.device.type != "cpu":
            return super().forward(input)
        live = places.abs().amax(-1) != 0
        if live.float().mean() > MOST_LIVE:
            return super().forward(input)
        n, rows, columns = live.nonzero().unbind(1)
        shares = (places[n, rows, columns] @ self.weight.permute(1, 2, 3, 0).flatten(1)).unflatten(1, (3, 3, -1))
        output = input.new_zeros(len(input), input.shape[2] + 2, input.shape[3] + 2, self.out_channels)
        for down in range(3):
            for right in range(3):
                output[n, rows + 2 - down, columns + 2 - right] += shares[:, down, right]
        bias = 0.0 if self.bias is None else self.bias
        return (output[:, 1:-1, 1:-1] + bias).movedim(-1, 1)


class FrameAutoencoder(nn.Module):
    """Frames `[N, 3, 512, 512]` in [-1, 1] to scaled latents `[N, 32, 16, 16]` and back.

    Frames of any size that 32 divides work as long as there is no background.

    Args:
        dc: the `AutoencoderDC` that does the work; its `scaling_factor` is the latents'.
        pixel_unshuffle: side of the pixel blocks folded into channels in front of it.
        background: uint8 `[512, 512, 3]` frame whose difference is coded; None codes the frame itself.
        other: uint8 `[512, 512, 3]`, the one other look that some spots of the background have (a pellet's, eaten or
            not): decoded frames show them as one or the other, not as something between. Elsewhere the background.
            Or `[1024, 512, 3]`, both looks, one above the other, where the background itself shows something between.
            Or `[1536, 512, 3]`, and below them what counts, numbers in green and blue (256 and 1): the points of spots,
            brought when they change to their darker look; these come back only together. Their red, where it is not
            black, says how near, in the game's pixels, what changes spots is when they do. And 255 red where the score
            is, with the fewest points that anything else brings.
        signs, sprites: the looks of what else is drawn (see `neural_pacman.looks`): decoded frames show it so.
        ways: where what moves may turn (see `neural_pacman.ways`), which counts beside sprites alone.

    Raises ValueError for any of these without a background.
    """

    background: Tensor | None
    maze: Tensor | None
    signs: Signs | None
    sprites: Sprites | None
    two: Tensor
    dark: Tensor
    bright: Tensor
    spot: Tensor
    middles: Tensor
    points: Tensor

    def __init__(
        self,
        dc: AutoencoderDC,
        pixel_unshuffle: int = 1,
        background: np.ndarray | None = None,
        other: np.ndarray | None = None,
        signs: np.ndarray | None = None,
        sprites: np.ndarray | None = None,
        ways: np.ndarray | None = None,
    ) -> None:
        super().__init__()
        if background is None and any(picture is not None for picture in (other, signs, sprites)):
            raise ValueError("Given looks of what is drawn (another look, signs or sprites), but no background.")
        self.dc = dc
        if background is not None and isinstance(dc.encoder.conv_in, nn.Conv2d):
            dc.encoder.conv_in.__class__ = SparseConv2d  # the same weights, by the same names
        self.pixel_unshuffle = pixel_unshuffle
        self.pictures = (background, other, signs, sprites, ways)
        self.register_buffer("background", None if background is None else to_tensor(background), persistent=False)
        self.register_buffer("maze", None, persistent=False)
        counts = np.zeros((FRAME_SIZE, FRAME_SIZE, 3), np.int64)
        if background is not None and other is not None:
            screens = other.reshape(-1, *background.shape)
            if len(screens) > 3:
                raise ValueError(f"The other look has {len(other)} rows; expected one to three frames of {FRAME_SIZE}.")
            counts = screens[2].astype(np.int64) if len(screens) == 3 else counts
            self.maze = to_tensor(screens[:2] if len(screens) > 1 else np.stack([background, *screens]))
            looks = self.maze.flatten(2)  # [2, 3, pixels]
            two = (looks[0] != looks[1]).any(0).nonzero().squeeze(1)
            dark, bright = looks[:, :, two].gather(
                0, looks[:, :, two].sum(1, keepdim=True).argsort(0).expand(-1, 3, -1)
            )
            spot, middles = torch.zeros(len(looks[0, 0]), dtype=torch.long), []
            contrast = (looks[0] - looks[1]).abs().sum(0).numpy()
            for number, (rows, columns) in enumerate(spots(contrast.reshape(FRAME_SIZE, -1) > 0)):
                places = rows * FRAME_SIZE + columns
                spot[places] = number
                middles.append([np.average(line + 0.5, weights=contrast[places]) for line in (rows, columns)])
            buffers = {"two": two, "dark": dark, "bright": bright, "spot": spot[two]}
            buffers["middles"] = torch.tensor(middles, dtype=torch.float32).view(-1, 2)
            rows, columns = buffers["middles"].long().unbind(1)
            buffers["points"] = torch.from_numpy(counts)[rows, columns] @ torch.tensor([0, 256, 1])
            for name, tensor in buffers.items():
                self.register_buffer(name, tensor, persistent=False)
        figures = counts[..., 0] == 255
        self.others = int((counts[figures] @ [0, 256, 1]).max(initial=1))
        """The fewest points that anything else than spots brings."""
        self.tells_points = self.maze is not None and 0 < max(self.points.tolist(), default=0) < self.others
        """Whether frames tell what spots brought, apart from what anything else did."""
        self.bite = int(counts[~figures, 0].max())
        """How near, in the game's pixels, what changes spots is to those that it changes; 0 where that is not known."""
        self.signs = None if signs is None else Signs(signs, figures, self.others)
        self.sprites = None
        if sprites is not None and self.background is not None:
            maze = torch.stack([self.background] * 2) if self.maze is None else self.maze
            self.sprites = Sprites(sprites, maze, None if self.signs is None else self.signs.area, ways)
        self.parts = [
            0 if self.maze is None else len(self.middles),
            0 if self.signs is None else len(self.signs.places),
            0 if self.sprites is None else len(Place._fields) * self.sprites.cast,
            0 if self.sprites is None else self.sprites.headings,
        ]
        """How much is known of spots, signs and sprites."""

    @classmethod
    def create(
        cls,
        size: str,
        background: np.ndarray | None = None,
        other: np.ndarray | None = None,
        signs: np.ndarray | None = None,
        sprites: np.ndarray | None = None,
        ways: np.ndarray | None = None,
    ) -> FrameAutoencoder:
        """A model of a preset size ("tiny", "compact" or "full") with random weights; ValueError for another one."""
        if size not in AUTOENCODERS:
            raise ValueError(f"There is no size {size!r}; expected one of {', '.join(AUTOENCODERS)}.")
        config = AUTOENCODERS[size]
        return cls(config.build(), config.pixel_unshuffle, background, other, signs, sprites, ways)

    @classmethod
    def load(cls, folder: Path, pixel_unshuffle: int, *pictures: np.ndarray | None) -> FrameAutoencoder:
        """The model in a plain `AutoencoderDC` folder, in float32, and its pictures in the order of the arguments."""
        dc = AutoencoderDC.from_pretrained(
            folder, use_safetensors=True, torch_dtype=torch.float32, low_cpu_mem_usage=False
        )
        return cls(dc, pixel_unshuffle, *pictures)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def scaling_factor(self) -> float:
        return float(self.dc.config.scaling_factor)

    @scaling_factor.setter
    def scaling_factor(self, value: float) -> None:
        self.dc.register_to_config(scaling_factor=float(value))

    def encode(self, frames: Tensor) -> Tensor:
        """Frames `[N, 3, H, W]` in [-1, 1] as scaled latents `[N, 32, H / 32, W / 32]`."""
        if self.background is not None:
            frames = frames - self.background
        return self.encode_folded(self._fold(frames)) * self.scaling_factor

    @property
    def decides(self) -> bool:
        """Whether decoded frames differ from what the network draws."""
        return not (self.maze is None and self.signs is None and self.sprites is None)

    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents `[N, 32, h, w]` as frames `[N, 3, 32 h, 32 w]`, clamped to [-1, 1]."""
        return self.decode_after(self.blank(len(latents)), latents).shown

    def blank(self, count: int) -> Tensor:
        """What is known of `count` dreams of which no frame was shown, int16 `[count, M]`."""
        return torch.full((count, sum(self.parts)), -1, dtype=torch.int16, device=self.device)

    def cast_of(self, known: Tensor) -> Tensor:
        """Who is known to be where, int64 `[N, cast, 7]`, a `Place` each, or -1."""
        return known.long().split(self.parts, 1)[2].unflatten(1, (-1, len(Place._fields)))

    def follow(self, frames: Tensor, known: Tensor | None = None) -> Tensor:
        """What is known after consecutive recorded frames `[T, 3, 512, 512]`, oldest first, int16 `[1, M]`, if this was
        `known` before them."""
        known = self.blank(1) if known is None else known
        for frame in frames if self.decides else ():
            shown = frame[None].clone(memory_format=torch.contiguous_format)
            known = self._decide(shown, self.before_next(known, recorded=True), recorded=True)[0].known
        return known

    def before_next(self, known: Tensor, actions: Tensor | None = None, recorded: bool = False) -> Tensor:
        """What is known int16 `[N, M]`, and of the next frames which actions lead to them, int64 `[N]`, None for not
        known, and whether they are `recorded` ones: whatever they show is so."""
        known = known.clone()
        if self.parts[-1]:
            known[:, -1] = Cause.number(-1 if actions is None else actions, recorded)
        return known

    def decode_after(self, known: Tensor, latents: Tensor) -> Decoded:
        """Decode the frames after those that something is known of, int16 `[N, M]`: in doubt a look stays."""
        shown = self._decode(latents)
        if not self.decides:
            return nothing_told(shown, known)
        decided, doubts = self._decide(shown, known)
        for n, spot in doubts.nonzero().tolist():
            self._ask(latents[n], shown[n], decided.known[n], spot)
        return decided

    def _decode(self, latents: Tensor) -> Tensor:
        """Frames as the network draws them.

        Where the device multiplies bfloat16 in hardware it does so: twice as fast, and no eye sees it (74 dB from
        float32's frames).
        """
        device = latents.device
        fast = torch.autocast(device.type, torch.bfloat16) if multiplies_bfloat16(device) else nullcontext()
        with fast:
            folded = self.decode_folded(latents / self.scaling_factor).float()
        if self.background is None:
            return self._unfold(folded).clamp_(-1.0, 1.0)
        return self._unfold(F.softshrink(folded, DEAD_ZONE)).add_(self.background).clamp_(-1.0, 1.0)

    def _fold(self, frames: Tensor) -> Tensor:
        """Frames as blocks of pixels in channels: what `F.pixel_unshuffle` does, in the order in which a convolution
        reads them."""
        side = self.pixel_unshuffle
        blocks = frames.unflatten(2, (-1, side)).unflatten(4, (-1, side))  # [N, 3, h, side, w, side]
        return blocks.permute(0, 2, 4, 1, 3, 5).flatten(3).movedim(-1, 1)

    def _unfold(self, folded: Tensor) -> Tensor:
        """The inverse of `_fold`, what `F.pixel_shuffle` does, as a contiguous copy that may be written to."""
        side = self.pixel_unshuffle
        blocks = folded.unflatten(1, (-1, side, side)).permute(0, 1, 4, 2, 5, 3)
        return blocks.clone(memory_format=torch.contiguous_format).flatten(4).flatten(2, 3)

    def _ask(self, latent: Tensor, frame: Tensor, known: Tensor, spot: int) -> None:
        """Show a spot of a frame `[3, 512, 512]` in its other look if the encoder makes what is nearer to the latent of
        that; the frame and what is known of it `[M]` are written to."""
        one, other = (self.bright, self.dark) if known[spot] > 0 else (self.dark, self.bright)
        here = self.spot == spot
        pixels, places = frame.view(3, -1), self.two[here]
        there = (pixels[:, places] - one[:, here]).abs().amax(0) < 1 / 127.5
        if 8 * there.sum() < len(there):  # something hides it
            return
        turned = frame.clone(memory_format=torch.contiguous_format)
        turned.view(3, -1)[:, places] = torch.where(there, other[:, here], pixels[:, places])
        apart = (self.encode(torch.stack([frame, turned])) - latent).square().sum((1, 2, 3))
        if apart[1] < apart[0]:
            frame.copy_(turned)
            known[spot] = 1 - known[spot]

    def _decide(self, frames: Tensor, known: Tensor, recorded: bool = False) -> tuple[Decoded, Tensor]:
        """Decide all that is in doubt in frames, which are written to; returns these, and the spots of which nothing
        was known and little is seen, bool `[N, spots]`. Of `recorded` frames what nothing hides is as they show it."""
        spots, signs, cast, heading = known.long().split(self.parts, 1)
        cast = cast.unflatten(1, (-1, len(Place._fields)))
        decided = nothing_told(frames, known)
        in_change = torch.ones_like(decided.lost)
        before, last, doubts = spots, signs, spots < 0
        begun, fed = [False] * len(frames), [True] * len(frames)
        if self.maze is not None:
            spots, doubts, seen = self._one_look(frames, spots, self._open(cast), recorded)
            self._show_spots(frames, spots, seen)
        if self.sprites is not None:
            was, (cast, heading, scenes) = cast, self.sprites(frames, cast, heading)
            begun = [scene.begun for scene in scenes]
            if self.bite:
                bitten = (spots == 1) & self.sprites.reaches(cast, self.middles, self.bite)
                spots, doubts = torch.where(bitten, 0, spots), doubts & ~bitten
                if bitten.any():
                    self._show_spots(frames, spots, seen)
            self.sprites.show(frames, self._grounds(spots), scenes)
            in_change, fed = self.sprites.moved(was, cast), self.sprites.fed(was, cast)
        points = None
        if self.maze is not None:
            anew = _anew(before, spots).squeeze(1)
            points = (self.points * ((before == 1) & (spots == 0))).sum(1)
            points = torch.where(anew | recorded, -1, points)
            begun = [one and not other for one, other in zip(begun, anew.tolist(), strict=True)]  # no life was lost
        if self.signs is not None:
            signs = self.signs(frames, signs, in_change, points, begun, fed)
        if points is not None and self.tells_points:
            decided = decided._replace(points=torch.where((before < 0).all(1), -1, points))
        lasts = [self.signs is not None and self.signs.last_life(looks) for looks in last.tolist()]
        caught, over = (torch.tensor(which, device=frames.device) for which in (begun, lasts))
        now = torch.cat([spots, signs, cast.flatten(1), heading], 1).to(known.dtype)
        return decided._replace(known=now, lost=caught & ~over, over=caught & over), doubts

    def _grounds(self, spots: Tensor) -> Tensor:
        """What frames show of the maze alone, `[N, 3, 512, 512]`, with spots in these looks."""
        assert self.background is not None
        grounds = self.background.repeat(len(spots), 1, 1, 1)
        if self.maze is not None:
            grounds.flatten(2)[:, :, self.two] = torch.where((spots[:, self.spot] > 0)[:, None], self.bright, self.dark)
        return grounds

    def _open(self, cast: Tensor) -> Tensor:
        """Which spots may change, bool `[N, spots]`."""
        if self.sprites is None:
            return torch.ones(len(cast), len(self.middles), dtype=torch.bool, device=cast.device)
        near = self.sprites.reaches(cast, self.middles) & (self.bite == 0)
        return near | self.sprites.unknown(cast)[:, None]

    def _one_look(
        self, frames: Tensor, last: Tensor, may_change: Tensor, recorded: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """In which of its two looks every spot is shown in frames.

        `last` is whether it was the brighter one, int64 `[N, spots]`, -1 where that is not known; that of now is
        returned, and where nothing was known whether it could be the other one, bool `[N, spots]`, and which of their
        pixels nothing hides, bool `[N, pixels]`. One that may not change, bool `[N, spots]`, does so only together with
        many others, as does one that brings points when it comes back; but not where frames are `recorded` and show all
        of it.
        """
        pixels = frames.view(*frames.shape[:2], -1)
        seen, way = pixels[:, :, self.two] - self.dark, self.bright - self.dark
        along, length = (seen * way).sum(1), way.square().sum(0)
        off = (seen - (along / length)[:, None] * way).abs().amax(1)
        shown = ((off < MAX_OFF) & ((along / length - DECIDED_AT).abs() < 1)).float()
        brightness, all_of_it, count = (
            shown.new_zeros(last.shape).index_add(1, self.spot, part * shown)
            for part in (along, length, torch.ones_like(length))
        )
        least = DECIDED_AT + LASTS * (last == 0)
        now = torch.where(count > 0, (brightness > least * all_of_it).long(), last)
        may_change = may_change & ~((self.points > 0) & (last == 0))
        if recorded:
            may_change = may_change | (count == torch.bincount(self.spot))
        now = torch.where(may_change | _anew(last, now) | (last < 0), now, last)
        doubts = (last < 0) & (count > 0) & ((brightness / all_of_it - DECIDED_AT).abs() < DOUBT)
        return now, doubts, shown > 0

    def _show_spots(self, frames: Tensor, spots: Tensor, seen: Tensor) -> None:
        """Show spots, bright where `[N, spots]` is 1, in frames, which are written to, but for pixels that are not
        `seen`, bool `[N, pixels]`."""
        pixels = frames.view(*frames.shape[:2], -1)
        decided = torch.where((spots[:, self.spot] > 0)[:, None], self.bright, self.dark)
        pixels[:, :, self.two] = torch.where(seen[:, None], decided, pixels[:, :, self.two])

    def encode_folded(self, folded: Tensor) -> Tensor:
        """What the network itself sees, blocks of pixels as channels `[N, 3 * pixel_unshuffle**2, h, w]`, to unscaled
        latents."""
        return self.dc.encode(folded.contiguous(memory_format=torch.channels_last)).latent

    def decode_folded(self, latents: Tensor) -> Tensor:
        """The inverse of `encode_folded`, before what lies in the dead zone is dropped."""
        return self.dc.decode(latents.contiguous(memory_format=torch.channels_last)).sample

    def save(self, folder: Path, **options: Any) -> None:
        """Write a plain `AutoencoderDC` folder (safetensors)."""
        self.dc.save_pretrained(folder, **options)


def _anew(last: Tensor, now: Tensor) -> Tensor:
    """Where so many spots changed together that it is another maze, bool `[N, 1]`."""
    return ((now != last) & (last >= 0)).sum(1, keepdim=True) >= RENEWED
