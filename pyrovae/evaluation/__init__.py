"""What a user asks for: `evaluate`, `compare`, `gap`: log p(x) per point, with errors and a reliability message."""
