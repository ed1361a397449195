-- Sends the files of a list in turn and notes when each answer came. Arguments: list, then names and values of headers.
local ffi = require("ffi")
ffi.cdef[[
typedef struct { long seconds; long microseconds; } fovea_time;
int gettimeofday(fovea_time *time, void *zone);
]]

local clock = ffi.new("fovea_time")
local bodies = {}
local sent = 0
local threads = {}

arrivals = {}
faults = 0
fault = ""

local function now()
  ffi.C.gettimeofday(clock, nil)
  return tonumber(clock.seconds) + tonumber(clock.microseconds) * 1e-6
end

function setup(thread)
  threads[#threads + 1] = thread
end

function init(args)
  local headers = {}
  for number = 2, #args, 2 do
    headers[args[number]] = args[number + 1]
  end
  for path in io.lines(args[1]) do
    local file = assert(io.open(path, "rb"))
    bodies[#bodies + 1] = wrk.format("POST", nil, headers, file:read("*a"))
    file:close()
  end
end

function request()
  sent = sent + 1
  return bodies[(sent - 1) % #bodies + 1]
end

function response(status, headers, body)
  if status == 200 then
    arrivals[#arrivals + 1] = now()
  else
    faults = faults + 1
    if fault == "" then
      fault = status .. " " .. body
    end
  end
end

local function quoted(text)
  return '"' .. text:gsub('[%c"\\]', function(c) return string.format("\\u%04x", c:byte()) end) .. '"'
end

function done(summary, latency, requests)
  local seen, bad, first = {}, 0, ""
  for _, thread in ipairs(threads) do
    for _, at in ipairs(thread:get("arrivals")) do
      seen[#seen + 1] = string.format("%.4f", at)
    end
    bad = bad + thread:get("faults")
    if first == "" then
      first = thread:get("fault")
    end
  end
  local broken = summary.errors
  local lost = broken.connect + broken.read + broken.write + broken.timeout
  io.write(string.format(
    '\nFOVEA {"arrivals": [%s], "p50_ms": %.3f, "p99_ms": %.3f, "faults": %d, "lost": %d, "fault": %s}\n',
    table.concat(seen, ","), latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, bad, lost, quoted(first)
  ))
end
