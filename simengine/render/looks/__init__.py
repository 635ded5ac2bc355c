"""How meshes look: materials of several triangles with textures, and what their own bodies keep from the light."""
