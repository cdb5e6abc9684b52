"""Rules for Fourier transforms and complex numbers: channel by channel, unless they run over channels."""

from __future__ import annotations

from autoprune.graph.call import Call, Rule, names
from autoprune.graph.operators_elementwise import elementwise
from autoprune.graph.operators_space import named_dims, over
from autoprune.graph.trace import One, Value


def _transformed_dims(call: Call, labels: One) -> list[int]:
    """`dim`; where only sizes are given (`s`, of transforms over n dimensions), as many of the last."""
    sizes = call.arg("s")
    return list(range(-len(sizes), 0)) if sizes and call.arg("dim") is None else named_dims(call, labels)


def to_complex(call: Call) -> Value:
    """view_as_complex: the last dimension holds real and imaginary part."""
    whole = call.whole(call.raw("self"), [-1])
    return call.give_up("joins channels") if whole is None else call.spread(whole.expanded().select(-1, 0))


def to_real(call: Call) -> Value:
    """view_as_real: real and imaginary part of a channel side by side in a dimension of their own."""
    return call.spread(call.raw("self").expanded().unsqueeze(-1).expand(call.shape))


_TRANSFORMS = [
    f"fft_{kind}{size}" for kind in names("fft ifft rfft irfft hfft ihfft") for size in ("", "2", "n")
]

SPECTRA: dict[str, Rule] = {
    **dict.fromkeys(_TRANSFORMS, over(_transformed_dims)),
    **dict.fromkeys(names("fft_fftshift fft_ifftshift"), over(named_dims)),
    **dict.fromkeys(names("real imag conj _conj resolve_conj resolve_neg complex polar"), elementwise),
    "view_as_complex": to_complex,
    "view_as_real": to_real,
}
