"""What was measured, and with what: files in, arrays in SI units out, and what a run should have shown."""

from simengine.observe.beams import FanBeam, ParallelBeam
from simengine.observe.camera import Camera
from simengine.observe.columns import Column
from simengine.observe.image_math import Segment
from simengine.observe.instruments.distribution import Distribution
from simengine.observe.instruments.experiments import Experiments
from simengine.observe.instruments.goal import Goal
from simengine.observe.instruments.grids import Grids
from simengine.observe.instruments.marks.markers import Markers
from simengine.observe.instruments.marks.specs import Marker
from simengine.observe.instruments.pictures import Pictures
from simengine.observe.instruments.projections import Projections
from simengine.observe.instruments.table import Curve, Profiles, Samples
from simengine.observe.place import Place
from simengine.scene.instrument import AbstractInstrument, Measured
from simengine.scene.noise import HoldOut, Loss, Noise

__all__ = [
    "AbstractInstrument",
    "Camera",
    "Column",
    "Curve",
    "Distribution",
    "Experiments",
    "FanBeam",
    "Goal",
    "Grids",
    "HoldOut",
    "Loss",
    "Marker",
    "Markers",
    "Measured",
    "Noise",
    "ParallelBeam",
    "Pictures",
    "Place",
    "Profiles",
    "Projections",
    "Samples",
    "Segment",
]
