"""Training: the steps, the loop around them, and the two things that are trained, teachers and students."""
