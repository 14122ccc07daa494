// Whether a file is worth keeping.
#pragma once

#include <string>

// Ask the program beside the cache, where the session has one. Of what is on disk it is only told.
bool IsWorthKeeping(const std::string &path, bool on_disk);
