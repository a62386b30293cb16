"""What lessons show: figures, panels, explorers that move, and questions that answer back."""
