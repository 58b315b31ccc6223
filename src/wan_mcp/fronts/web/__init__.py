"""The page's server side: routes of the studio, its JSON API, its events, and signing in."""
