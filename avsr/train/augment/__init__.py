"""What training does to clips, so that a model meets the world: noise, rooms, other speeds, damaged and lost senses."""
