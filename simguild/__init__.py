"""A simulated guild: a fake Discord, an engine that paces itself, and scripted members."""
