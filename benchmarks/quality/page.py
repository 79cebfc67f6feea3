def render(results):
    return "todo\n"
