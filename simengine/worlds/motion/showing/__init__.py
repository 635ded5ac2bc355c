"""Pictures of saved states, and of files: balls, a surface around them, or pyvista; coloured by a field, with axes."""

from simengine.worlds.motion.showing.drawing import Pictured
from simengine.worlds.motion.showing.files import show_file
from simengine.worlds.motion.showing.moving import moving_bodies
from simengine.worlds.motion.showing.states import motion_of, read_states, show_states, state_fields

__all__ = ["Pictured", "motion_of", "moving_bodies", "read_states", "show_file", "show_states", "state_fields"]
