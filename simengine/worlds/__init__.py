"""What is believed of a piece of the world, a room per family; `simengine.scene.kinds` names them."""
