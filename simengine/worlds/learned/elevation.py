"""How high the cameras of the learned tasks stand."""

from typing import Annotated

from simengine.scene.strict import Range

Elevation = Annotated[float, Range(ge=30, le=85)]  # [degrees]; from lower down the horizon would be seen
