"""Signals that resemble an electric guitar, made of nothing but random numbers.

Plucked strings are Karplus and Strong's ("Digital synthesis of plucked-string and drum timbres",
Computer Music Journal 7(2), 1983): a burst of noise, one period long, is repeated, and each
repetition is low-pass filtered once more.
"""

from __future__ import annotations

import numpy as np

RATE = 44_100  # samples per second
_LOWEST, _HIGHEST = 40, 76  # MIDI notes: the lowest E and the E three octaves above
# Chords, in semitones above their lowest note.
_SHAPES = ([0], [0, 7], [0, 7, 12], [0, 7, 12, 16, 19], [0, 7, 12, 15, 19])


def pluck(rng: np.random.Generator, frequency: float, samples: int) -> np.ndarray:
    """A plucked string of `frequency` Hz, at most 1 in magnitude."""
    period = max(2, round(RATE / frequency))
    string = rng.uniform(-1, 1, period)
    softness = rng.integers(1, max(2, period // 8))  # of the pick, in samples
    string = np.convolve(np.tile(string, 2), np.full(softness, 1 / softness), "same")[:period]
    string -= np.roll(string, int(rng.uniform(0.1, 0.5) * period))  # from the position of the pick
    decay = rng.uniform(0.985, 0.999)
    periods = []
    for _ in range(-(-samples // period)):
        periods.append(string)
        string = decay * 0.5 * (string + np.roll(string, 1))
    return _unit(np.concatenate(periods)[:samples])


def chord(rng: np.random.Generator, samples: int) -> np.ndarray:
    """One to five strings, struck one after the other within 30 ms."""
    sound = np.zeros(samples)
    base = rng.uniform(_LOWEST, _HIGHEST - 12)
    for interval in _SHAPES[rng.integers(len(_SHAPES))]:
        start = min(int(rng.uniform(0, 0.03) * RATE), samples - 1)
        frequency = 440 * 2 ** ((base + interval - 69) / 12)
        sound[start:] += rng.uniform(0.5, 1) * pluck(rng, frequency, samples - start)
    return _unit(sound)


def sweep(rng: np.random.Generator, samples: int) -> np.ndarray:
    """A sine that glides between two random frequencies, each in 30 Hz to 10 kHz."""
    ends = np.exp(rng.uniform(np.log(30), np.log(10_000), 2))
    frequency = np.geomspace(*ends, samples)
    return np.sin(2 * np.pi * np.cumsum(frequency) / RATE)


def burst(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Decaying noise, low-pass filtered by a random amount."""
    noise = rng.normal(size=samples) * np.exp(-np.arange(samples) / (rng.uniform(0.01, 0.2) * RATE))
    width = rng.integers(1, 40)
    return _unit(np.convolve(noise, np.full(width, 1 / width), "same"))


def signal(seconds: float, seed: int) -> np.ndarray:
    """A performance, float32 in [-1, 1]: notes, chords, sweeps, bursts and rests, soft and loud.

    >>> x = signal(0.5, seed=0)
    >>> x.shape, x.dtype, bool(abs(x).max() <= 1)
    ((22050,), dtype('float32'), True)
    """
    rng = np.random.default_rng(seed)
    total = round(seconds * RATE)
    played = np.zeros(total)
    start = 0
    while start < total:
        samples = min(int(rng.uniform(0.05, 0.7) * RATE), total - start)
        kind = rng.choice(["note", "chord", "sweep", "burst", "rest"], p=[0.4, 0.3, 0.1, 0.1, 0.1])
        if kind == "note":
            pitch = rng.uniform(_LOWEST, _HIGHEST)
            sound = pluck(rng, 440 * 2 ** ((pitch - 69) / 12), samples)
        elif kind == "rest":
            sound = np.zeros(samples)
        else:
            sound = {"chord": chord, "sweep": sweep, "burst": burst}[str(kind)](rng, samples)
        level = np.exp(rng.uniform(np.log(0.03), 0))
        played[start : start + samples] = level * sound + 1e-4 * rng.normal(size=samples)
        start += samples
    return np.clip(played, -1, 1).astype(np.float32)


def _unit(sound: np.ndarray) -> np.ndarray:
    return sound / max(1e-9, float(np.abs(sound).max()))
