-- For wrk: sends each call of a file once (three lines a call: Authorization, Idempotency-Key or nothing, body).
-- Afterwards it asks for a page that costs little, until it is killed.

local lines
local is_first = true -- which wrk asks for to look at, and does not send
local is_over = false

function init(args)
  lines = io.lines(args[1])
end

function request()
  local authorization = nil
  if is_first then
    is_first = false
  elseif not is_over then
    authorization = lines()
    is_over = authorization == nil
  end
  if authorization == nil then
    return wrk.format("GET", "/admin/login/")
  end
  local headers = {["Authorization"] = authorization, ["Content-Type"] = "application/json"}
  local key = lines()
  if key ~= "" then
    headers["Idempotency-Key"] = key
  end
  return wrk.format("POST", "/products/", headers, lines())
end
