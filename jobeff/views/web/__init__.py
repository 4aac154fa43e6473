"""Pages about jobs, projects and users: served beside the tables (`serve`), or written as files (`static_site`)."""
